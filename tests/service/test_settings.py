"""Settings that hold secrets, and addresses of databases."""

import pytest
from pydantic import ValidationError

from service.__main__ import main
from service.settings import Settings

PASSWORD = "hunter2"  # noqa: S105


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/lib/history.sqlite3",
        "sqlite:///history.sqlite3",
        f"postgresql://xent:{PASSWORD}@db/xent",
        f"postgresql+psycopg://xent:{PASSWORD}@db:5432/xent?sslmode=require",
    ],
)
def test_databases_are_named_by_addresses_that_are_not_shown(url: str) -> None:
    settings = Settings.model_validate({"database_url": url})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == url
    assert PASSWORD not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://xent:{PASSWORD}@db/xent",
        f"postgres://xent:{PASSWORD}@db/xent",
        f"postgresql://xent:{PASSWORD}@db:port/xent",
        f"://{PASSWORD}",
        PASSWORD,
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_what_is_no_database_is_refused_without_repeating_it(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValidationError, match="write sqlite:///path or postgresql://") as caught:
        Settings.model_validate({"database_url": url})
    assert PASSWORD not in str(caught.value)
    monkeypatch.setenv("XENT_DATABASE_URL", url)
    assert main([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("XENT_DATABASE_URL, --database-url: ")
    assert PASSWORD not in shown


def test_help_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XENT_DATABASE_URL", f"postgresql://xent:{PASSWORD}@db/xent")
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "[XENT_DATABASE_URL, default: none]" in " ".join(shown.split())
    assert PASSWORD not in shown
