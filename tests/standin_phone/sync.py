"""The sync service: what `adb push` and `adb pull` talk to.

Source: Android's packages/modules/adb, file_sync_protocol.h and daemon/file_sync_service.cpp.
"""

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.standin_phone.wire import Gone, Stream

CHUNK = 64 * 1024


class Storage(Protocol):
    """What the service asks of the phone."""

    def path(self, name: str) -> Path:
        """Where the phone's file lies on this computer."""

    def writable(self, name: str) -> bool:
        """Whether the shell user may write there."""

    def room(self) -> float:
        """Bytes that still fit."""

    def begins(self, transfer: str) -> Callable[[], None]:
        """A "push NAME" or "pull NAME" begins; what is returned is called after the first bytes."""

    def record(self, kind: str, name: str, size: int) -> None:
        """A transfer has been done."""


def serve(stream: Stream, storage: Storage) -> None:
    """Answer requests until QUIT or until the client has gone."""
    while True:
        kind, size = struct.unpack("<4sI", stream.read(8))
        if kind == b"QUIT":
            return
        name = stream.read(size).decode()
        if kind == b"STAT":
            stream.write(b"STAT" + _old_status(storage.path(name)))
        elif kind in (b"STA2", b"LST2"):
            stream.write(kind + _status(storage.path(name), follow=kind == b"STA2"))
        elif kind in (b"LIST", b"LIS2"):
            _list(stream, storage.path(name), kind)
        elif kind == b"SEND":
            name, _, mode = name.rpartition(",")
            _take(stream, storage, name, int(mode))
        elif kind == b"SND2":
            _, mode, _ = struct.unpack("<4sII", stream.read(12))
            _take(stream, storage, name, mode)
        elif kind in (b"RECV", b"RCV2"):
            if kind == b"RCV2":
                stream.read(8)
            _give(stream, storage, name)
        else:
            _fail(stream, f"unknown command {kind!r}")
            return


def _fail(stream: Stream, text: str) -> None:
    stream.write(struct.pack("<4sI", b"FAIL", len(text.encode())) + text.encode())


def _old_status(path: Path) -> bytes:
    try:
        found = path.lstat()
    except OSError:
        return bytes(12)
    return struct.pack("<3I", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))


def _status(path: Path, follow: bool = False) -> bytes:
    """error, dev, ino, mode, nlink, uid, gid, size, atime, mtime, ctime; 68 bytes."""
    layout = "<IQQIIIIQqqq"
    try:
        found = path.stat() if follow else path.lstat()
    except OSError as error:
        return struct.pack(layout, error.errno, *[0] * 10)
    return struct.pack(
        layout, 0, found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size,
        int(found.st_atime), int(found.st_mtime), int(found.st_ctime),
    )  # fmt: skip


def _list(stream: Stream, folder: Path, kind: bytes) -> None:
    new = kind == b"LIS2"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = path.name.encode()
        entry = b"DNT2" + _status(path) if new else b"DENT" + _old_status(path)
        stream.write(entry + struct.pack("<I", len(name)) + name)
    stream.write(b"DONE" + bytes(72 if new else 16))


def _take(stream: Stream, storage: Storage, name: str, mode: int) -> None:
    """One push. After an error the rest is read all the same: the client sends it before it looks for the answer."""
    begun = storage.begins(f"push {name}")
    path, size, file, problem = storage.path(name), 0, None, None
    if not storage.writable(name):
        problem = "couldn't create file: Permission denied"
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("wb")
        except OSError as error:
            problem = f"couldn't create file: {os.strerror(error.errno)}"
    try:
        while True:
            kind, length = struct.unpack("<4sI", stream.read(8))
            if kind == b"DONE":  # then `length` is the time of the last change
                break
            data = stream.read(length)
            begun()
            if problem is None and len(data) > storage.room():
                problem = "write failed: No space left on device"
            if problem is None:
                file.write(data)
                file.flush()
                size += len(data)
    except Gone:
        if file:
            path.unlink(missing_ok=True)
        raise
    finally:
        if file:
            file.close()
    if problem:
        if file:
            path.unlink(missing_ok=True)
        _fail(stream, problem)
        return
    path.chmod(stat.S_IMODE(mode))
    os.utime(path, (length, length))
    storage.record("push", name, size)
    stream.write(struct.pack("<4sI", b"OKAY", 0))


def _give(stream: Stream, storage: Storage, name: str) -> None:
    begun = storage.begins(f"pull {name}")
    try:
        data = storage.path(name).read_bytes()
    except OSError as error:
        _fail(stream, f"open failed: {os.strerror(error.errno)}")
        return
    for start in range(0, len(data), CHUNK):
        piece = data[start : start + CHUNK]
        stream.write(struct.pack("<4sI", b"DATA", len(piece)) + piece)
        begun()
    stream.write(struct.pack("<4sI", b"DONE", 0))
    storage.record("pull", name, len(data))
