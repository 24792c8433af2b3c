"""cluster.yaml and the files in deploy/: what the installed Ray takes, and what exists."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_start

from rddrs_dist import cli

ROOT = Path(__file__).resolve().parents[1]
CLUSTERS = ["cluster.yaml", "deploy/aws.yaml"]
JOB = "jobs/certify_mnist.py"


def read(name: str) -> Any:
    """The only document of a YAML file."""
    return yaml.safe_load((ROOT / name).read_text())


def submitted(command: str) -> Any:
    """The configuration that a command's flags of the job stand for."""
    words = shlex.split(command.replace("\\\n", " "))
    (script,) = (k for k, word in enumerate(words) if word.endswith(JOB))
    assert (ROOT / JOB).is_file()
    return cli.parse(["certify", "paper-mnist", *words[script + 1 :]])


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_takes_it(name: str):
    prepared = prepare_config(read(name))
    validate_config(prepared)
    assert prepared["head_node_type"] in prepared["available_node_types"]
    assert "ssh_user" in prepared["auth"]  # the schema does not ask for it, `ray up` does


@pytest.mark.parametrize("name", CLUSTERS)
def test_everything_that_is_copied_exists_and_suffices(name: str):
    copied = {source for source in read(name)["file_mounts"].values() if source[0] != "~"}
    assert all((ROOT / source).exists() for source in copied)
    assert {"Makefile", "pyproject.toml", "requirements.txt", "jobs"} <= copied


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("kind", ["head", "worker"])
def test_ray_starts_with_a_token_and_flags_that_it_knows(name: str, kind: str):
    command = read(name)[f"{kind}_start_ray_commands"][-1]
    assert "RAY_AUTH_MODE=token ray start" in command
    known = {flag for option in ray_start.params for flag in option.opts}
    assert set(re.findall(r" (--[\w-]+)", command.split("ray start")[1])) <= known
    # Whoever reaches the dashboard runs code: it listens to this machine alone.
    assert ("--dashboard-host=127.0.0.1" in command) == (kind == "head")


def test_the_job_of_the_readme_fits_the_cluster_on_aws():
    text = (ROOT / "deploy/README.md").read_text()
    (command,) = re.findall(r"ray job submit(?:.*\\\n)+.*$", text, re.M)
    run, cluster = submitted(command), read("deploy/aws.yaml")
    worker = cluster["available_node_types"]["gpu-worker"]
    there = cluster["max_workers"] * worker["resources"]["GPU"]
    assert 0 < run.execution.workers * run.execution.gpus_per_actor <= there
    sent = re.findall(r"^ray rsync-up deploy/aws.yaml \S+ (\S+)$", text, re.M)
    assert {Path(path) for path in sent} == {run.data_root, run.checkpoint}
    assert text.index("\nray rsync-down ") < text.index("\nray down ")


def test_the_job_on_kubernetes_reads_and_writes_the_volume_and_fits_its_workers():
    spec = read("deploy/rayjob.yaml")["spec"]
    run, cluster = submitted(spec["entrypoint"]), spec["rayClusterSpec"]
    claim, pod = yaml.safe_load_all((ROOT / "deploy/volume.yaml").read_text())
    for one in (pod["spec"], cluster["headGroupSpec"]["template"]["spec"]):
        (container,), (volume,) = one["containers"], one["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (mount,) = container["volumeMounts"]
        folder = Path(mount["mountPath"])
        assert all(folder in path.parents for path in (run.out, run.checkpoint, run.data_root))
    (group,) = cluster["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert run.execution.workers * run.execution.gpus_per_actor == group["replicas"] * int(
        limits["nvidia.com/gpu"]
    )
    (pin,) = re.findall(r"^ray==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)
    assert cluster["rayVersion"] == pin


def test_the_image_copies_what_exists():
    lines = re.findall(r"^COPY (.+) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.M)
    copied = {source for line in lines for source in line.split()}
    assert "requirements.txt" in copied and all((ROOT / source).exists() for source in copied)
