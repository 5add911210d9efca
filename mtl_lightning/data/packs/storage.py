"""Where a pack lies: in a folder, or in an object storage of which copies are kept here."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from mtl_lightning.data.packs.layout import (
    INDEX,
    LABELS,
    MANIFEST,
    Shard,
    checksum,
)
from mtl_lightning.data.sources.locate import url
from mtl_lightning.system.errors import (
    SourceError,
    UserError,
    listed,
    one_line,
)

_LOCAL = "local:"
SCHEMES = ("s3://", "gs://", "azure://", _LOCAL)
"""What litdata fetches from. With ``local:`` it is a folder, such as one on a network drive, whose
shards are copied to the disk of this machine."""

EXTRA = "pip install 'mtl-lightning[stream]'"


class Place(Protocol):
    """Where the files of a pack are."""

    name: str

    def manifest(self) -> bytes:
        """Return the content of ``pack.json``."""

    def table(self, file: str, expected: str) -> bytes:
        """Return the content of ``index.json`` or ``labels.parquet``, if it has this checksum."""

    def shard(self, shard: Shard) -> str:
        """Return the path of a shard as a file of this machine."""

    def renew(self, shard: Shard, seen: int) -> bool:
        """Replace a damaged copy; whether `shard` gives another one now.

        Args:
            shard: Which one.
            seen: The number of the damaged file (``st_ino``), which is still open: if the copy is
                another by now, somebody else has replaced it.
        """


def place(
    path: str,
    cache_dir: str | None = None,
    cache_gb: float = 20.0,
    storage_options: Mapping[str, Any] | None = None,
) -> Place:
    """Return the place that a path or URL names; see `StreamSource`.

    Raises:
        UserError: If it is no folder and no URL that litdata can fetch from.
    """
    if path.startswith(SCHEMES):
        return Remote(path.rstrip("/"), cache_dir, cache_gb, storage_options or {})
    if url(path):
        raise UserError(
            f"{path}: cannot be fetched from there; expected a folder, or a URL that begins with "
            f"{listed(SCHEMES)}"
        )
    return Folder(os.path.abspath(os.path.expanduser(path)))


class Folder:
    """A pack in a folder of this machine, or of a drive that it sees.

    Args:
        name: The folder.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def manifest(self) -> bytes:
        """Return the content of ``pack.json``.

        Raises:
            UserError: If there is no such file.
        """
        return self._content(MANIFEST)

    def table(self, file: str, expected: str) -> bytes:
        """Return the content of one of the other small files.

        Raises:
            UserError: If there is no such file, or it is not as it was written.
        """
        content = self._content(file)
        _check(content, expected, f"{self.name}: {file}")
        return content

    def _content(self, file: str) -> bytes:
        try:
            return Path(self.name, file).read_bytes()
        except OSError as error:
            if not os.path.isdir(self.name):
                raise UserError(
                    f"there is no folder {self.name}; expected one that `mtl-lightning pack` wrote"
                ) from None
            raise UserError(
                f"{self.name} is no whole pack: {file} cannot be read ({error.strerror}); expected "
                "a folder that `mtl-lightning pack` wrote"
            ) from None

    def shard(self, shard: Shard) -> str:
        """Return the path of a shard."""
        return os.path.join(self.name, shard.name)

    def renew(self, shard: Shard, seen: int) -> bool:
        """Replace nothing: it is the shard itself."""
        del shard, seen
        return False


class Remote:
    """A pack in an object storage; what was fetched is kept, up to a limit, for all processes.

    Args:
        name: The URL.
        cache_dir: Where copies are kept; None: in the user's folder of caches.
        cache_gb: The shards that were last opened are kept, up to so many gigabytes.
        storage_options: What the client of the storage gets.
    """

    def __init__(
        self,
        name: str,
        cache_dir: str | None,
        cache_gb: float,
        storage_options: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.storage_options = dict(storage_options)
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
        own = os.path.join(caches, "mtl-lightning", "packs") if cache_dir is None else cache_dir
        self.cache_dir = os.path.abspath(os.path.expanduser(own))
        self.most = int(cache_gb * 1e9)
        self._identity = ""

    def manifest(self) -> bytes:
        """Fetch ``pack.json`` anew each time: it says whether the other files have changed.

        Raises:
            UserError: If it cannot be fetched.
        """
        with self._keeping(), self._folder_for_copies(self.cache_dir) as folder:
            content = Path(self._fetched(MANIFEST, folder)).read_bytes()
        # Another pack at the same address must not find copies of this one's shards.
        self._identity = checksum(content)[:32]
        return content

    def table(self, file: str, expected: str) -> bytes:
        """Return the content of one of the other small files, from a copy that is whole.

        Raises:
            UserError: If it cannot be fetched, or is not as it was written.
        """

        def check(path: str) -> None:
            _check(Path(path).read_bytes(), expected, f"{self.name}: {file}")

        def kept(path: str) -> bool:
            return os.path.exists(path) and checksum(Path(path).read_bytes()) == expected

        with self._keeping():
            return Path(self._copy(file, check, kept)).read_bytes()

    def shard(self, shard: Shard) -> str:
        """Return the path of a copy of a shard, fetched if there is none.

        Raises:
            SourceError: If it cannot be fetched, or not as a whole.
        """
        with self._keeping():
            path = self._copy(shard.name, partial(self._check_shard, shard), os.path.exists)
            with suppress(FileNotFoundError):  # removed by another process since: asked for again
                # Those that were not opened for longest go first; the system's own clock is coarse.
                os.utime(path, ns=(time.time_ns(), time.time_ns()))
            return path

    def renew(self, shard: Shard, seen: int) -> bool:
        """Fetch a shard anew whose copy a power cut, say, has damaged; see `Place.renew`.

        Raises:
            SourceError: If it cannot be fetched; the copy is still there then.
        """

        def kept(path: str) -> bool:
            return os.path.exists(path) and os.stat(path).st_ino != seen

        with self._keeping():
            self._copy(shard.name, partial(self._check_shard, shard), kept)
        return True

    def _check_shard(self, shard: Shard, path: str) -> None:
        check_size(os.path.getsize(path), shard, self.name)

    def _copy(self, file: str, check: Callable[[str], None], kept: Callable[[str], bool]) -> str:
        """Return the path of a copy.

        Args:
            file: Of the pack.
            check: Raises unless what was fetched is as it should be.
            kept: Whether the path has a copy that needs no fetching.
        """
        folder = os.path.join(self.cache_dir, self._identity)
        path = os.path.join(folder, file)
        if kept(path):
            return path
        os.makedirs(folder, exist_ok=True)
        with FileLock(os.path.join(folder, f".{file}.lock")):  # one process fetches, others wait
            if not kept(path):
                with self._folder_for_copies(folder) as own:
                    fetched = self._fetched(file, own)
                    check(fetched)
                    os.replace(fetched, path)
        if file not in (INDEX, LABELS):
            self._make_room(Path(folder), file)
        return path

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(
                f"copies of {self.name} cannot be kept in {self.cache_dir} ({error.strerror}); "
                "give a folder that can be written to: `cache_dir`"
            ) from error

    @staticmethod
    def _folder_for_copies(within: str) -> tempfile.TemporaryDirectory[str]:
        os.makedirs(within, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=within, prefix=".fetching-")

    def _fetched(self, file: str, folder: str) -> str:
        """Let litdata fetch a file into a folder, and return its path there."""
        path = os.path.join(folder, file)
        try:
            downloader = _litdata_downloader(self.name, folder, self.storage_options)
            if self.name.startswith(_LOCAL):
                downloader.download_file(f"{self.name}/{file}", path)
            else:
                # litdata's other way has threads that a forked process cannot go on with, and no
                # storage behind plain http.
                with open(path, "wb") as content:
                    downloader.download_fileobj(f"{self.name}/{file}", content)
            return path
        except UserError:
            raise
        except Exception as error:  # of whichever library speaks to that storage
            reason = one_line(" ".join(str(error).split())) or type(error).__name__
        what = "is no pack that can be read" if file == MANIFEST else "is not whole"
        raise SourceError(
            f"{self.name} {what}: {file} cannot be fetched ({reason}); expected the address of "
            "what `mtl-lightning pack` wrote, and the right to read it"
        )

    def _make_room(self, folder: Path, but: str) -> None:
        """Remove the shards that were not opened for longest, past the limit."""
        found = []
        for path in folder.glob("*.bin"):
            try:
                found.append((path.stat(), path))
            except FileNotFoundError:  # another process makes room, too
                continue
        total = sum(stat.st_size for stat, _ in found)
        for stat, path in sorted(found, key=lambda each: each[0].st_mtime_ns):
            if total > self.most and path.name != but:
                # Who has it open reads on: its bytes go when the last one closes it.
                path.unlink(missing_ok=True)
                total -= stat.st_size


def _check(content: bytes, expected: str, name: str) -> None:
    if checksum(content) != expected:
        raise UserError(
            f"{name} is not as it was written (its checksum is another); copy the pack anew"
        )


def check_size(found: int, shard: Shard, name: str) -> None:
    """Raise a `SourceError` unless a shard has all its bytes.

    Args:
        found: The bytes that are there.
        shard: What should be there.
        name: Of the pack.
    """
    if found != shard.size:
        raise SourceError(
            f"{name}: shard {shard.name} has {found:,} bytes; expected {shard.size:,}: it is cut "
            "short or not of this pack; copy the pack anew"
        )


def _litdata_downloader(address: str, folder: str, options: Mapping[str, Any]) -> Any:
    try:
        from litdata.streaming.downloader import get_downloader  # an extra
    except ImportError:
        raise UserError(
            f"{address} is fetched by the library litdata, which is not installed: {EXTRA}"
        ) from None
    return get_downloader(address, folder, [], dict(options), {})
