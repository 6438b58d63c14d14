"""Users, passwords, tokens and roles."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stride_monai.annotations import AccessError, Action, AnnotationError, Kind, Role, Users
from stride_monai.annotations import users as users_module

PASSWORD = "correct horse battery"  # of nobody


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Users:
    monkeypatch.setattr(users_module, "_COST", (16, 8, 1))  # hashes of the real cost take their time
    return Users(tmp_path / "users.json")


def test_a_password_lets_in_and_only_that(users: Users) -> None:
    users.add("ana", PASSWORD)
    assert users.with_password("ana", PASSWORD).role == Role.ANNOTATOR
    for name, password in (("ana", "wrong"), ("bo", PASSWORD), ("ana", ""), ("", ""), ("ana", PASSWORD + "\0")):
        with pytest.raises(AccessError, match="wrong name or password"):
            users.with_password(name, password)


def test_the_file_holds_hashes_only_and_is_its_owners(users: Users) -> None:
    users.add("ana", PASSWORD)
    token = users.issue_token("ana")
    text = users.path.read_text()
    assert PASSWORD not in text
    assert token not in text
    assert json.loads(text)["users"]["ana"]["password"].startswith("scrypt$")
    if os.name == "posix":
        assert stat.S_IMODE(users.path.stat().st_mode) == 0o600


def test_the_real_cost_is_what_owasp_asks_for(tmp_path: Path) -> None:
    real = Users(tmp_path / "users.json")
    real.add("ana", PASSWORD)
    assert json.loads(real.path.read_text())["users"]["ana"]["password"].startswith("scrypt$32768$8$3$")
    assert real.with_password("ana", PASSWORD).name == "ana"


def test_tokens_end(users: Users) -> None:
    users.add("ana", PASSWORD, Role.ADMIN)
    old, new = users.issue_token("ana", days=-1), users.issue_token("ana")
    assert users.with_token(new).role == Role.ADMIN
    for token in (old, "", "x", new + "x"):
        with pytest.raises(AccessError):
            users.with_token(token)
    users.set_password("ana", PASSWORD + "!")
    with pytest.raises(AccessError):
        users.with_token(new)


def test_roles_and_signatures(users: Users) -> None:
    ana, boss = users.add("ana", PASSWORD), users.add("boss", PASSWORD, Role.ADMIN)
    boss.require(Role.ANNOTATOR)
    with pytest.raises(AccessError):
        ana.require(Role.ADMIN)
    boss.check_own(Action("boss", "s", Kind.ARBITRATION, "c1", None, "LSIL"))
    for action in (Action("ana", "s", Kind.ARBITRATION, "c1", None, "LSIL"), Action("boss", "s", Kind.CALL)):
        with pytest.raises(AccessError):
            ana.check_own(action)


@pytest.mark.parametrize("name", ["", " ana", "a\nb", "x" * 65, "\u202eana"])
def test_names_that_cannot_sign_are_refused(users: Users, name: str) -> None:
    with pytest.raises(AnnotationError):
        users.add(name, PASSWORD)


def test_names_that_look_the_same_are_one(users: Users) -> None:
    users.add("Ana", PASSWORD)
    with pytest.raises(AccessError, match="already"):
        users.add("ANA", PASSWORD)
    with pytest.raises(AccessError, match="12"):
        users.add("bo", "short")


def test_changes_at_once_lose_nobody(users: Users) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Users(users.path).add(f"reader {number}", PASSWORD), range(16)))
    assert len(users.all()) == 16


def test_somebody_elses_file_is_left_alone(users: Users) -> None:
    users.path.write_text('{"users": []}')
    with pytest.raises(AnnotationError):
        users.add("ana", PASSWORD)
    assert users.path.read_text() == '{"users": []}'
