"""The files that platforms read say what is true."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from trellis.cli import cli

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())


def is_ours(command: list[str]) -> bool:
    """Whether a command is one of the CLI's, with options that it has."""
    program, name, *options = command
    known = {option for p in cli.commands[name].params for option in p.opts}
    return program == "trellis" and set(options) <= known


def test_procfile():
    assert list(PROCFILE) == ["release", "web", "worker", "flower"]
    assert all(is_ours(command.split()) for command in PROCFILE.values())


def test_app_json__names_processes_of_the_procfile():
    app = json.loads((ROOT / "app.json").read_text())

    assert set(app["formation"]) <= set(PROCFILE)
    assert (ROOT / app["env"]["TRELLIS_CONFIG"]["value"]).is_file()


@pytest.mark.parametrize("name", ["migrate", "web", "worker", "flower"])
def test_compose__runs_our_commands(name):
    assert is_ours(COMPOSE["services"][name]["command"])


@pytest.mark.parametrize("name", ["postgres", "valkey", "web", "worker", "flower"])
def test_compose__has_health_checks(name):
    assert COMPOSE["services"][name]["healthcheck"]["test"]


def test_compose__scales():
    """A fixed name or host port would allow one container of a kind."""
    worker = COMPOSE["services"]["worker"]

    assert not any("container_name" in service for service in COMPOSE["services"].values())
    assert "ports" not in worker
    assert worker["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_compose__publishes_on_loopback_only():
    published = [p for s in COMPOSE["services"].values() for p in s.get("ports", [])]

    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_env_example__has_every_variable_that_compose_requires():
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    given = {line.split("=")[0] for line in (ROOT / ".env.example").read_text().splitlines()}

    assert required <= given


def test_constraints__are_names_and_versions():
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert len(lines) > 50
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+( ;.*)?", line) for line in lines)


def test_constraints__pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = {Requirement(line).name.lower() for line in asked}
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()
    }

    assert names <= pinned
    assert all(
        "<" in line
        for line in asked
        if Requirement(line).name not in ("packaging", "typing-extensions", "tzdata")
    )


def test_requirements__install_the_project_as_pinned():
    assert (ROOT / "requirements.txt").read_text().splitlines() == ["-c constraints.txt", "."]
