"""Error messages of libraries, in one line."""

import re
from collections.abc import Iterable
from pathlib import Path

from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mtl_lightning.system.errors import UserError, did_you_mean, state_dict_difference

_CONNECTOR = "pytorch_lightning.trainer.connectors.checkpoint_connector"
_WORDS = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "text"}


def short_message(message: str, options: Iterable[str]) -> str:
    """Return the helpful line of jsonargparse's message.

    Args:
        message: The parser's message: a key, nested reasons, sometimes pages of usage.
        options: The option strings that the parser knows.
    """
    unknown = re.search(r"[Uu]nrecognized arguments?:\s*(\S+)", message)
    if unknown:
        flag = unknown.group(1).partition("=")[0]
        if not flag.startswith("-"):
            return f'"{flag}": not expected here; options start with --'
        known = [option for option in options if not option.endswith((".help", "+"))]
        return f"{flag}: no such option{did_you_mean(flag, known)}"
    message = re.sub(
        r"Expected a <class '(\w+)'>", lambda match: f"expected {_name(match[1])}", message
    )
    message = re.sub(r"^argument (--\S+): expected one argument$", r"\1 needs a value", message)
    one = re.match(r'Parser key "([^"]+)": expected (.+)\. Got value: (.*)', message)
    if one:
        return f"{one[1]} should be {one[2]}. Found {one[3]}"
    lines = [" ".join(line.split()) for line in message.splitlines() if line.strip()]
    key = re.search(r"[Kk]ey ['\"]?([\w.\[\]-]+)", message)
    given = re.search(r"Given value:\s*([^\n]*)", message)
    reasons = [line.lstrip("- ") for line in lines if line.startswith("- ")]
    if key and reasons:
        found = f". Found {given.group(1)}" if given else ""
        reasons = list(dict.fromkeys(reasons))
        if all(reason.startswith("expected ") for reason in reasons):
            types = " or ".join(reason.removeprefix("expected ") for reason in reasons)
            return f"{key.group(1)} should be {types}{found}"
        return f"{key.group(1)}: {'; or '.join(reasons)}{found}"
    return " ".join(lines)


def reason(error: BaseException) -> str:
    """Return the message of the innermost error wrapped by libraries, on one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    package = re.search(r"class_path '([\w.]+)':[^`]*HINT: Try running `(pip [^`]+)`", str(error))
    if package:
        return f"{package[1].rpartition('.')[2]} needs a package that is not there; {package[2]}"
    while "\n" in str(error) and error.__cause__ is not None:
        error = error.__cause__  # pages of jsonargparse around one line
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return f"{lines[0] if lines else type(error).__name__} (--debug shows where)"


def as_user_error(error: Exception, checkpoint: Path | None) -> Exception:
    """Return an error that the user can fix as a ``UserError``, any other as it is.

    Args:
        error: The error that a command raised.
        checkpoint: The file that the command started from.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return UserError(f"{error.filename}: {error.strerror}")
    if isinstance(error, RuntimeError) and (difference := state_dict_difference(error)):
        return UserError(
            f"checkpoint {checkpoint}: does not fit the network of the config ({difference}); "
            f"leave `model` out of the config, the checkpoint remembers it"
        )
    if not isinstance(error, UserError) and _while_restoring(error):
        return UserError(
            f"checkpoint {checkpoint}: does not fit the training of the config: {reason(error)}"
        )
    # Errors that these libraries raise themselves (options of a trainer that contradict each other,
    # a schedule that is over) are about the config; others keep their traceback.
    if isinstance(error, MisconfigurationException) or (
        isinstance(error, ValueError | ModuleNotFoundError)
        and _raised_by(error, "pytorch_lightning", "torch.optim.lr_scheduler")
    ):
        return UserError(reason(error))
    if _raised_by(error, "pytorch_lightning.callbacks.early_stopping"):  # a name that is not logged
        return UserError(reason(error))
    return error


def _raised_by(error: BaseException, *packages: str) -> bool:
    """Whether the code that raised an error is of one of these packages."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _while_restoring(error: BaseException) -> bool:
    """Whether an error was raised while Lightning restored its state from a checkpoint."""
    trace = error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__")
        if module == _CONNECTOR and "restore" in code.co_name:
            return True
        trace = trace.tb_next
    return False


def _name(kind: str) -> str:
    return "null" if kind == "NoneType" else _WORDS.get(kind, kind)
