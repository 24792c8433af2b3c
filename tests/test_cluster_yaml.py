"""`cluster.yaml` is what the installed Ray takes, and names files that exist."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[1]

# All that Ray's local provider reads; its schema lets any other name through.
PROVIDER_KEYS = {"type", "head_ip", "worker_ips", "external_head_ip"}


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_takes_it(cluster: dict[str, Any]):
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]
    assert prepared["max_workers"] == 0
    assert "ssh_user" in prepared["auth"]  # the schema does not ask for it, `ray up` does


def test_the_provider_has_no_key_that_ray_would_ignore(cluster: dict[str, Any]):
    provider = cluster["provider"]
    assert provider["type"] == "local"
    assert set(provider) <= PROVIDER_KEYS
    assert provider["head_ip"] not in provider["worker_ips"]  # Ray asserts


def test_everything_that_is_copied_exists_and_is_small(cluster: dict[str, Any]):
    sources = [ROOT / source for source in cluster["file_mounts"].values()]
    assert [source.name for source in sources if not source.exists()] == []
    files = [file for source in sources for file in (source, *source.rglob("*")) if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 5_000_000
    assert {"Makefile", "pyproject.toml", "requirements.txt"} <= {s.name for s in sources}


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_ray_starts_in_the_environment_with_a_token_and_stops_nothing(
    cluster: dict[str, Any], kind: str
):
    (command,) = cluster[f"{kind}_start_ray_commands"]
    assert command.startswith(". ~/rddrs_dist/.venv/bin/activate && RAY_AUTH_MODE=token ray start")
    assert "ray stop" not in command


def test_the_dashboard_is_for_this_machine_only(cluster: dict[str, Any]):
    (command,) = cluster["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in command
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in command
