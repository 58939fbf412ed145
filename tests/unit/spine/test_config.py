"""Configuration is read once and complains once, about everything."""

from dataclasses import fields

import pytest

from appfn.config import CommonConfig, OperatorConfig, ShimConfig, load
from appfn.errors import ConfigError

LEAST = {"APPFN_IMAGE": "appfn/appfn:test"}


def test_everything_but_the_image_has_a_default() -> None:
    config = load(LEAST)

    assert config.common.image == "appfn/appfn:test"
    assert config.shim.port == 8080
    assert config.operator.workers == 8


def test_values_are_read_as_the_type_of_their_field() -> None:
    config = load(LEAST | {"APPFN_PORT": "0", "APPFN_LEASE_SECONDS": "2.5", "APPFN_NAMESPACE": "elsewhere"})

    assert config.shim.port == 0
    assert config.operator.lease_seconds == 2.5
    assert config.common.namespace == "elsewhere"


def test_an_empty_value_is_no_value() -> None:
    assert load(LEAST | {"APPFN_WORKERS": ""}).operator.workers == 8


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"APPFN_WORKERS": "many", "APPFN_PORT": "-1"})

    said = str(caught.value)
    assert "APPFN_IMAGE: is required" in said
    assert "APPFN_WORKERS: must be a whole number, not 'many'" in said
    assert "APPFN_PORT: must be at least 0, not -1" in said


def test_what_has_an_upper_bound_keeps_to_it() -> None:
    with pytest.raises(ConfigError, match="APPFN_PROCESSES: must be at most 32, not 33"):
        load(LEAST | {"APPFN_PROCESSES": "33"})


def test_the_database_url_is_not_shown() -> None:
    config = load(LEAST | {"APPFN_DATABASE_URL": "postgresql+asyncpg://appfn:hunter2@db/appfn"})

    assert "hunter2" not in repr(config)


def test_every_field_names_a_variable_and_only_the_pod_name_is_shared() -> None:
    seen = [item.metadata["env"] for section in (CommonConfig, OperatorConfig, ShimConfig) for item in fields(section)]

    assert sorted(name for name in set(seen) if seen.count(name) > 1) == ["APPFN_POD_NAME"]
