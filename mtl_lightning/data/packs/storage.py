"""Access to the files of a pack: in a folder, or in an object store with a local cache."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec
from filelock import FileLock

from mtl_lightning.data.packs.manifest import MANIFEST, sha256
from mtl_lightning.data.records import cache_folder
from mtl_lightning.system.errors import SourceError, UserError, one_line

T = TypeVar("T")


class PackStorage:
    """The files of a pack.

    Files in a folder are opened in place. Files at a URL are copied to this machine, once for
    all its processes; the most recently opened copies are kept.

    Args:
        path: The folder or URL; for all arguments see `StreamSource`.
        cache_dir: The folder for copies; None for one in the user's cache folder.
        cache_gb: Gigabytes of copies to keep.
        options: Options of fsspec's client for the storage.

    Attributes:
        name: The folder or URL, for messages.

    Raises:
        UserError: If fsspec does not know URLs of this kind.
    """

    def __init__(
        self,
        path: str,
        cache_dir: str | None = None,
        cache_gb: float = 20.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        protocol, separator, _ = path.partition("://")
        self.remote = bool(separator) and "/" not in protocol
        if self.remote and protocol not in fsspec.available_protocols():
            raise UserError(
                "`path` should be a folder or a URL that fsspec knows, such as s3://, gs://, az:// "
                f"or https://. Found {path}"
            )
        self.name = path.rstrip("/") if self.remote else os.path.abspath(os.path.expanduser(path))
        own = cache_folder() / "packs" if cache_dir is None else Path(cache_dir).expanduser()
        self.cache_dir = own.absolute()
        self.most = int(cache_gb * 1e9)
        self.options = options or {}
        self._folder = Path(self.name)

    def manifest(self) -> bytes:
        """Return the content of ``pack.json``.

        Raises:
            SourceError: If it cannot be read.
        """
        content = self._fetched(MANIFEST, lambda storage, path: bytes(storage.cat_file(path)))
        if self.remote:
            # Another pack at the same address must not use copies of this one's files.
            self._folder = self.cache_dir / sha256(content)[:32]
        return content

    def open(self, file: str, size: int, damaged: int = 0) -> IO[bytes]:
        """Open another file, fetching a copy if necessary.

        Args:
            file: The file's name.
            size: The size that it should have, in bytes.
            damaged: The inode of a copy that turned out to be damaged: another one is fetched.

        Raises:
            SourceError: If it does not exist, cannot be read, or has another size.
        """
        path = self._folder / file
        if self.remote:
            return self._copy(path, size, damaged)
        try:
            return _checked(path, size, f"{self.name}: {file}")
        except FileNotFoundError:
            raise SourceError(f"{self.name}: there is no {file}; copy the pack again") from None
        except OSError as error:
            raise SourceError(f"{self.name}: {file} cannot be read: {error.strerror}") from error

    def _copy(self, path: Path, size: int, damaged: int) -> IO[bytes]:
        try:
            opened = _found(path, size, damaged)
            if opened is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                with FileLock(path.with_name(f".{path.name}.lock")):  # one process fetches
                    opened = _found(path, size, damaged) or self._fetch_copy(path, size)
                self._make_room(path)
            with suppress(FileNotFoundError):  # another process may have removed it
                os.utime(path, ns=(time.time_ns(), time.time_ns()))  # a file's own clock is coarse
            return opened
        except OSError as error:
            raise SourceError(
                f"copies of {self.name} cannot be kept in {self.cache_dir} ({error.strerror}); "
                "`cache_dir` should be a folder that can be written to"
            ) from error

    def _fetch_copy(self, path: Path, size: int) -> IO[bytes]:
        part = path.with_name(f".{path.name}.part")
        try:
            self._fetched(path.name, lambda storage, remote: storage.get_file(remote, str(part)))
            opened = _checked(part, size, f"{self.name}: {path.name}")
            os.replace(part, path)
            return opened
        finally:
            part.unlink(missing_ok=True)

    def _fetched(self, file: str, fetch: Callable[[fsspec.AbstractFileSystem, str], T]) -> T:
        """Return the result of the storage's client; each client has errors of its own."""
        try:
            storage, root = fsspec.url_to_fs(self.name, **self.options)
            return fetch(storage, f"{root}/{file}")
        except ImportError as error:
            raise UserError(
                f"{self.name} cannot be read without the client of its storage ({error}); for "
                "s3:// it is in pip install 'mtl-lightning[stream]'"
            ) from None
        except Exception as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            reason = one_line(" ".join(reason.split()))
            raise SourceError(
                f"{self.name}: {file} cannot be read ({reason}); expected the folder or URL of "
                "what `mtl-lightning pack` wrote, and the right to read it"
            ) from error

    def _make_room(self, but: Path) -> None:
        """Remove the least recently opened shards beyond the limit."""
        found = []
        for path in self._folder.glob("*.bin"):
            with suppress(FileNotFoundError):  # another process may have removed it
                found.append((path.stat(), path))
        total = sum(stat.st_size for stat, _ in found)
        for stat, path in sorted(found, key=lambda each: each[0].st_mtime_ns):
            if total > self.most and path != but:
                # Processes that have it open can read on: its bytes go when the last one closes it.
                path.unlink(missing_ok=True)
                total -= stat.st_size


def _found(path: Path, size: int, damaged: int) -> IO[bytes] | None:
    """Open a copy, if there is one that is complete and not the damaged one."""
    try:
        opened = _checked(path, size, path.name)
    except (FileNotFoundError, SourceError):
        return None
    if os.fstat(opened.fileno()).st_ino != damaged:
        return opened
    opened.close()
    return None


def _checked(path: Path, size: int, name: str) -> IO[bytes]:
    """Open a file, checking its size in bytes."""
    opened = open(path, "rb")  # noqa: SIM115 - for the caller
    found = os.fstat(opened.fileno()).st_size
    if found == size:
        return opened
    opened.close()
    raise SourceError(
        f"{name} should have {size:,} bytes. Found {found:,}: it is cut short or from another "
        "pack; copy the pack again"
    )
