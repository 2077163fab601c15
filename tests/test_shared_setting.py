"""A setting that is changed while any thread needs it so. Forks: tests/test_blas.py."""

import threading

import pytest

from refsam.shared_setting import SharedSetting

pytestmark = pytest.mark.core


@pytest.fixture
def done() -> list[str]:
    return []


@pytest.fixture
def setting(done: list[str]) -> SharedSetting:
    return SharedSetting(lambda: done.append("changed"), lambda: done.append("restored"))


def test_the_first_in_changes_and_the_last_out_restores(setting: SharedSetting, done: list[str]) -> None:
    with setting.changed():
        other = threading.Thread(target=setting.enter)
        other.start()
        other.join()
    assert done == ["changed"]  # the other thread has not left
    setting.enter()
    setting.leave()
    assert done == ["changed"]


def test_a_block_that_fails_restores_and_the_next_one_changes_again(setting: SharedSetting, done: list[str]) -> None:
    with pytest.raises(KeyError), setting.changed(), setting.changed():
        raise KeyError
    with setting.changed():
        assert done == ["changed", "restored", "changed"]
    assert done == ["changed", "restored"] * 2


def test_what_changes_may_be_interrupted_by_what_needs_the_same(done: list[str]) -> None:
    """A signal's handler runs on the thread that holds the lock, and must not wait for it."""

    def change() -> None:
        if not done:
            done.append("interrupted")
            with setting.changed():
                done.append("inside")

    setting = SharedSetting(change, lambda: None)
    with setting.changed():
        assert done == ["interrupted", "inside"]
