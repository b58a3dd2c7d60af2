"""The command line: every setting is listed, every mistake is readable."""

from pathlib import Path

import pytest

from service import openapi
from service.__main__ import main
from service.app import create_app
from service.settings import Settings


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"--{name.replace('_', '-')}" in text
        assert f"[XENT_{name.upper()}, default: " in text
        assert " ".join(field.description.split()) in text


def test_openapi_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    assert capsys.readouterr().out == openapi.text(create_app(Settings()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "99999"], "XENT_PORT, --port: Input should be less than or equal to 65535"),
        (["--workers", "many"], "XENT_WORKERS, --workers: Input should be a valid integer"),
        (["--device", "tpu"], "XENT_DEVICE, --device: "),
        (["--device", "cuda:99"], "XENT_DEVICE, --device: "),
        (["--drain-s", "40"], "drain_s must not exceed shutdown_deadline_s"),
        (["--api-keys", "secret"], "XENT_API_KEYS, --api-keys: Value error, write key:scope"),
        (["--data-dir", "/dev/null/x"], "XENT_DATA_DIR, --data-dir: /dev/null/x cannot be used"),
    ],
)
def test_mistakes_are_readable(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert says in message
    assert "secret" not in message
    assert "Traceback" not in message


def test_the_environment_counts_and_flags_win(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XENT_PORT", "70000")
    assert main(["openapi"]) == 2
    assert "XENT_PORT" in capsys.readouterr().err
    assert main(["openapi", "--port", "7000"]) == 0


def test_data_dir_is_made_and_must_be_writable(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "a" / "b")
    settings.prepare_data_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Settings(data_dir=tmp_path / "file").prepare_data_dir()
