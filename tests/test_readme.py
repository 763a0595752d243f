"""The README keeps up with what it describes."""

from pathlib import Path

from typer.main import get_command

from crm.cli import app
from crm.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_setting_is_described() -> None:
    missing = [name for name in Settings.model_fields if f"`CRM_{name.upper()}`" not in README]

    assert missing == []


def test_every_command_is_described() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]

    assert [name for name in commands if f"`crm {name}" not in README] == []
