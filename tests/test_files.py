"""Files are whole or absent, whatever happens while they are written."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest

from ldct_utils.study import files


def test_json_parquet_and_npy_round_trip(tmp_path):
    files.write_json(
        tmp_path / "a.json", {"x": np.float32(0.5), "y": [1, None], "z": np.arange(3), "nan": float("nan")}
    )
    assert files.read_json(tmp_path / "a.json") == {"x": 0.5, "y": [1, None], "z": [0, 1, 2], "nan": None}
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    files.write_parquet(tmp_path / "t.parquet", frame)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), frame)
    files.write_npy(tmp_path / "v.npy", np.arange(6).reshape(2, 3))
    assert np.load(tmp_path / "v.npy").shape == (2, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "t.parquet", "v.npy"]


def test_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), files.write_atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_new_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), files.new_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with files.new_folder(tmp_path / "f") as temporary:
        (temporary / "a").write_text("whole")
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f" / "a").read_text() == "whole"
    with pytest.raises(FileExistsError, match="never overwritten"), files.new_folder(tmp_path / "f"):
        raise AssertionError("must not be entered")


def test_json_refuses_what_it_cannot_hold_and_names_a_broken_file(tmp_path):
    with pytest.raises(TypeError, match="object"):
        files.write_json(tmp_path / "a.json", {"x": object()})
    (tmp_path / "b.json").write_text('{"x": 1')
    with pytest.raises(ValueError, match=r"b\.json"):
        files.read_json(tmp_path / "b.json")


def _hold(path, seconds):
    with files.locked(path, say=lambda text: None):
        (path.parent / "held").write_text(str(os.getpid()))
        time.sleep(seconds)


def test_lock_keeps_others_out_and_is_freed_when_its_holder_is_killed(tmp_path):
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "run", 60))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.05)
    said = []
    with pytest.raises(TimeoutError, match="run"), files.locked(tmp_path / "run", say=said.append, timeout=0.2):
        raise AssertionError("must not be entered")
    assert said and "waiting" in said[0]
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with files.locked(tmp_path / "run", timeout=5):
        pass


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert files.sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")
