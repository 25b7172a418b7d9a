"""Archives that would become far larger than they are, or say so, are refused before anything is allocated."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bnn_pyro.data import archives
from bnn_pyro.data.archives import check_archive, decompressed


def test_arrays_are_as_large_as_they_say(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "it.npz", X=np.ones((3, 2)), y=np.array(["a", "b", "c"]))
    check_archive(tmp_path / "it.npz")
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 100)})
    with zipfile.ZipFile(tmp_path / "large.npz", "w") as archive:
        archive.writestr("X.npy", buffer.getvalue() + bytes(80))
    with pytest.raises(ValueError, match="X.npy of shape .* must have 800,000,000,000 bytes, got 80"):
        check_archive(tmp_path / "large.npz")


def test_what_is_compressed_too_well_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_ALWAYS", 1000)
    np.savez_compressed(tmp_path / "it.npz", X=np.zeros(1_000_000))
    with pytest.raises(ValueError, match="its arrays take 8,000,128 bytes, more than 200 times those of the file"):
        check_archive(tmp_path / "it.npz")
    (tmp_path / "it.gz").write_bytes(gzip.compress(bytes(1_000_000)))
    with pytest.raises(ValueError, match="it holds more than 200 times the bytes of the file"):
        decompressed(tmp_path / "it.gz")
    (tmp_path / "small.gz").write_bytes(gzip.compress(b"abc"))
    assert decompressed(tmp_path / "small.gz") == b"abc"
