"""The files in `deploy/` are what Ray and KubeRay take, safe, and agree with each other."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start as ray_start

from rddrs_dist import cli
from rddrs_dist.run.options import Run

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
(PIN,) = re.findall(r"^ray==(\S+)$", (ROOT / "requirements.txt").read_text(), re.M)
TOKEN = "~/.ray/auth_token"
SCRIPT = "jobs/certify_mnist.py"

# Names of `ray up`, of its AWS provider and of EC2's RunInstances that are used. Ray's schema lets
# any other name of the last two through, and gives the first defaults of its own.
PROVIDER = {"type", "region", "availability_zone", "cache_stopped_nodes", "security_group"}
TOP = {
    *("cluster_name", "max_workers", "idle_timeout_minutes", "provider", "auth"),
    *("head_node_type", "available_node_types", "file_mounts", "rsync_exclude"),
    *("setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
}
NODE = {"InstanceType", "ImageId", "BlockDeviceMappings", "MetadataOptions"}

# Names of KubeRay's and Kubernetes' schemas that are used.
JOB = {
    *("entrypoint", "backoffLimit", "preRunningDeadlineSeconds", "shutdownAfterJobFinishes"),
    *("ttlSecondsAfterFinished", "rayClusterSpec", "submitterPodTemplate"),
}
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"serviceType", "rayStartParams", "template"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
POD = {
    *("automountServiceAccountToken", "securityContext", "containers", "volumes", "tolerations"),
    "restartPolicy",
}
CONTAINER = {"name", "image", "command", "securityContext", "resources", "volumeMounts"}


@pytest.fixture(scope="module")
def aws() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "aws.yaml").read_text())


@pytest.fixture(scope="module")
def rayjob() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


@pytest.fixture(scope="module")
def volume() -> dict[str, dict[str, Any]]:
    """What the README pipes into files for kubectl, by kind."""
    texts = re.findall(r"<<'END'\n(.*?)^END$", README, re.S | re.M)
    return {document["kind"]: document for document in map(yaml.safe_load, texts)}


def _flags_of(text: str) -> tuple[str, list[str]]:
    """The script that a command runs and the flags that it gives it."""
    words = shlex.split(text.replace("\\\n", " "))
    at = next(k for k, word in enumerate(words) if word.endswith(SCRIPT))
    return words[at], words[at + 1 :]


def _run_of(text: str) -> Run:
    """What the job makes of the flags in a command."""
    run = cli.parse(["certify", "paper-mnist", *_flags_of(text)[1]])
    assert isinstance(run, Run)
    return run


def _submission() -> str:
    """The command that the README submits a job to AWS with."""
    (command,) = re.findall(r"^ray job submit(?:.*\\\n)+.*$", README, re.M)
    return command


def _pods(rayjob: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The pods of a RayJob by role."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    owners = {"head": cluster["headGroupSpec"], "worker": workers}
    pods = {role: owner["template"]["spec"] for role, owner in owners.items()}
    return {**pods, "submitter": rayjob["spec"]["submitterPodTemplate"]["spec"]}


def _start_flags(command: str) -> set[str]:
    """The flags that a shell command gives to `ray start`."""
    return set(re.findall(r" --([\w-]+)", command.split("ray start")[1]))


def _known_start_flags() -> set[str]:
    """The flags that the installed `ray start` has."""
    return {name.removeprefix("--") for option in ray_start.params for name in option.opts}


def _starts(aws: dict[str, Any]) -> Iterator[str]:
    """The commands that start Ray, of the head and of a worker; one that stops it is before."""
    for kind in ("head", "worker"):
        stop, start = aws[f"{kind}_start_ray_commands"]
        assert stop.endswith("&& ray stop") and "ray start" in start
        yield start


def _copied() -> set[str]:
    """What the Dockerfile copies into the image."""
    lines = re.findall(r"^COPY (.+)$", DOCKERFILE, re.M)
    return {source for line in lines for source in line.split()[:-1]}


def _below(path: Path | None, folder: str) -> bool:
    """Whether an absolute path is inside a folder."""
    return path is not None and Path(folder) in path.parents and ".." not in path.parts


@pytest.mark.parametrize("name", ["aws.yaml", "rayjob.yaml", "Dockerfile", "README.md"])
def test_nothing_listens_everywhere_or_floats(name: str):
    text = (DEPLOY / name).read_text()
    assert "0.0.0.0" not in text
    assert not re.search(r":latest|ray-wheels|master", text)


@pytest.mark.parametrize("name", ["aws.yaml", "rayjob.yaml"])
def test_it_says_what_has_not_been_tried_and_what_to_change(name: str):
    text = (DEPLOY / name).read_text()
    header = " ".join(text.split("\n\n")[0].replace("#", "").split())
    assert "schema" in header and "not been applied to a cloud yet" in header
    assert text.count("(*)") > 3


# AWS


def test_ray_takes_the_aws_file(aws: dict[str, Any]):
    prepared = prepare_config(aws)
    validate_config(prepared)
    assert prepared["available_node_types"][aws["head_node_type"]]["max_workers"] == 0
    assert prepared["worker_setup_commands"] == aws["setup_commands"]  # not Ray's own
    assert prepared["head_setup_commands"] == aws["setup_commands"] + aws["head_setup_commands"]


def test_aws_has_no_name_that_ray_or_ec2_would_not_know(aws: dict[str, Any]):
    assert set(aws) == TOP
    assert set(aws["provider"]) == PROVIDER
    assert aws["provider"]["type"] == "aws"
    for node in aws["available_node_types"].values():
        assert NODE <= set(node["node_config"]) <= NODE | {"InstanceMarketOptions"}
    assert all(_start_flags(command) <= _known_start_flags() for command in _starts(aws))


def test_zones_are_of_the_region(aws: dict[str, Any]):
    zones = aws["provider"]["availability_zone"].split(",")
    assert all(re.fullmatch(aws["provider"]["region"] + "[a-z]", zone) for zone in zones)


def test_the_head_does_no_work_and_stays(aws: dict[str, Any]):
    head = aws["available_node_types"][aws["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]


def test_workers_are_gpu_machines_on_spot_that_come_when_wanted(aws: dict[str, Any]):
    types = aws["available_node_types"]
    (worker,) = (node for name, node in types.items() if name != aws["head_node_type"])
    assert worker["min_workers"] == 0
    assert 0 < worker["max_workers"] <= aws["max_workers"]
    assert worker["resources"]["CPU"] > 0 and worker["resources"]["GPU"] > 0
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_machines_want_a_session_for_their_metadata_and_lose_their_disks(aws: dict[str, Any]):
    for node in aws["available_node_types"].values():
        assert node["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}
        (disk,) = node["node_config"]["BlockDeviceMappings"]
        assert set(disk) == {"DeviceName", "Ebs"}
        assert set(disk["Ebs"]) == {"VolumeSize", "VolumeType", "Encrypted", "DeleteOnTermination"}
        assert disk["Ebs"]["DeleteOnTermination"] and disk["Ebs"]["VolumeSize"] >= 100


def test_every_start_on_aws_wants_a_token(aws: dict[str, Any]):
    for command in _starts(aws):
        assert command.startswith(". ~/rddrs_dist/.venv/bin/activate && ")
        assert "&& RAY_AUTH_MODE=token ray start " in command
    assert aws["file_mounts"][TOKEN] == TOKEN
    assert f"chmod 600 {TOKEN}" in aws["setup_commands"]


def test_only_the_head_has_a_dashboard_and_only_for_itself(aws: dict[str, Any]):
    head, worker = _starts(aws)
    assert "--head" in head and "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert "--head" not in worker and "--address=$RAY_HEAD_IP:6379" in worker


def test_only_ssh_is_let_in(aws: dict[str, Any]):
    group = aws["provider"]["security_group"]
    assert set(group) == {"GroupName"}  # no rules beside those of the README
    assert f"--group-name {group['GroupName']} " in README
    assert re.findall(r"--port (\S+)", README) == ["22"]
    assert re.findall(r"--cidr (\S+)", README) == ["YOUR.ADDRESS/32"]


def test_everything_that_is_copied_exists(aws: dict[str, Any]):
    mounts = {target: source for target, source in aws["file_mounts"].items() if target != TOKEN}
    assert all((ROOT / source).exists() for source in mounts.values())
    assert all(target == f"~/rddrs_dist/{source}" for target, source in mounts.items())
    assert {"Makefile", *_copied()} <= set(mounts.values())


def test_aws_installs_the_pinned_release(aws: dict[str, Any]):
    *_, system, install = aws["setup_commands"]
    assert system.endswith(" install make python3-venv")
    assert install == "cd ~/rddrs_dist && make install"
    assert "--requirement requirements.txt" in (ROOT / "Makefile").read_text()
    (boto,) = (word for c in aws["head_setup_commands"] for word in c.split() if "boto3" in word)
    assert re.fullmatch(r"boto3==[\d.]+", boto)
    assert f"pip install {boto}" in README


def test_the_job_in_the_readme_fits_the_aws_cluster(aws: dict[str, Any]):
    run, worker = _run_of(_submission()), aws["available_node_types"]["gpu-worker"]
    there = worker["max_workers"] * worker["resources"]["GPU"]
    assert 0 < run.actors * run.gpus_per_actor <= there
    assert run.resume and run.start_timeout >= 1200  # machines start and install first
    sent = re.findall(r"^ray rsync-up deploy/aws.yaml \S+ (\S+)$", README, re.M)
    assert {Path(path) for path in sent} == {run.data_root, run.checkpoint}


def test_results_on_aws_are_fetched_before_the_disk_goes():
    out = _run_of(_submission()).out
    fetched = re.findall(r"^ray rsync-down deploy/aws.yaml (\S+)/ ", README, re.M)
    assert [_below(out, folder) for folder in fetched] == [True]
    assert README.index("\nray rsync-down ") < README.index("\nray down ")


# Kubernetes


def test_the_rayjob_has_no_unknown_name(rayjob: dict[str, Any]):
    assert set(rayjob) == {"apiVersion", "kind", "metadata", "spec"}
    assert (rayjob["apiVersion"], rayjob["kind"]) == ("ray.io/v1", "RayJob")
    cluster = rayjob["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert (set(rayjob["spec"]), set(cluster)) == (JOB, CLUSTER)
    assert (set(cluster["headGroupSpec"]), set(workers)) == (HEAD, WORKERS)


def test_pods_have_no_unknown_name(rayjob: dict[str, Any], volume: dict[str, Any]):
    for pod in (*_pods(rayjob).values(), volume["Pod"]["spec"]):
        (container,) = pod["containers"]
        assert set(pod) <= POD
        assert set(container) <= CONTAINER


def test_ray_knows_the_start_parameters(rayjob: dict[str, Any]):
    cluster = rayjob["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group["rayStartParams"]) <= _known_start_flags()
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_kubernetes_takes_the_name(rayjob: dict[str, Any]):
    assert re.fullmatch("[a-z][a-z0-9-]{0,45}[a-z0-9]", rayjob["metadata"]["name"])  # KubeRay's
    assert f"kubectl get rayjob {rayjob['metadata']['name']}\n" in README


def test_one_image_with_the_pinned_ray(rayjob: dict[str, Any], volume: dict[str, Any]):
    pods = (*_pods(rayjob).values(), volume["Pod"]["spec"])
    (image,) = {pod["containers"][0]["image"] for pod in pods}
    assert rayjob["spec"]["rayClusterSpec"]["rayVersion"] == PIN
    assert image.split(":")[1] == f"ray-{PIN}"
    assert set(re.findall(r"registry\S+", README + DOCKERFILE)) == {image}


def test_kuberay_gives_everybody_a_token(rayjob: dict[str, Any]):
    assert rayjob["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_the_rayjob_head_does_no_work(rayjob: dict[str, Any]):
    head = rayjob["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_the_job_runs_the_script_of_the_image(rayjob: dict[str, Any]):
    script, _ = _flags_of(rayjob["spec"]["entrypoint"])
    (folder,) = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, re.M)
    assert rayjob["spec"]["entrypoint"].startswith(f"python {script} ")
    assert script == f"{folder}/{SCRIPT}" and (ROOT / SCRIPT).is_file()


def test_the_job_reads_and_writes_on_the_volume(rayjob: dict[str, Any], volume: dict[str, Any]):
    run = _run_of(rayjob["spec"]["entrypoint"])
    for pod in (_pods(rayjob)["head"], volume["Pod"]["spec"]):
        (mount,), (claim,) = pod["containers"][0]["volumeMounts"], pod["volumes"]
        paths = (run.out, run.checkpoint, run.data_root)
        assert all(_below(path, mount["mountPath"]) for path in paths)
        assert mount["name"] == claim["name"] and "readOnly" not in mount
        name = volume["PersistentVolumeClaim"]["metadata"]["name"]
        assert claim["persistentVolumeClaim"] == {"claimName": name}


def test_data_goes_where_the_job_reads_it(rayjob: dict[str, Any], volume: dict[str, Any]):
    run, pod = _run_of(rayjob["spec"]["entrypoint"]), volume["Pod"]["metadata"]["name"]
    copied = re.findall(rf"kubectl cp \S+ {pod}:(\S+)", README)
    assert {Path(path) for path in copied} == {run.data_root, run.checkpoint}
    (fetched,) = re.findall(rf"kubectl cp {pod}:(\S+)", README)
    assert _below(run.out, fetched)


def test_a_try_that_fails_is_followed_by_one_that_goes_on(rayjob: dict[str, Any]):
    assert rayjob["spec"]["backoffLimit"] > 0
    assert _run_of(rayjob["spec"]["entrypoint"]).resume


def test_the_cluster_goes_when_the_job_is_done_or_cannot_start(rayjob: dict[str, Any]):
    assert rayjob["spec"]["shutdownAfterJobFinishes"] is True
    assert 0 < rayjob["spec"]["ttlSecondsAfterFinished"] <= 600
    assert 0 < rayjob["spec"]["preRunningDeadlineSeconds"] <= 3600


def test_workers_have_what_the_actors_ask_for(rayjob: dict[str, Any]):
    run = _run_of(rayjob["spec"]["entrypoint"])
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    (toleration,) = group["template"]["spec"]["tolerations"]
    assert toleration == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]
    assert run.actors * run.gpus_per_actor == group["replicas"] * int(limits["nvidia.com/gpu"])
    assert run.actors * run.cpus_per_actor <= group["replicas"] * int(limits["cpu"])


def test_containers_have_requests_and_limits(rayjob: dict[str, Any], volume: dict[str, Any]):
    pods = {**_pods(rayjob), "files": volume["Pod"]["spec"]}
    for role, pod in pods.items():
        resources = pod["containers"][0]["resources"]
        names = {"cpu", "memory"} | ({"nvidia.com/gpu"} if role == "worker" else set())
        assert set(resources) == {"requests", "limits"}
        assert set(resources["requests"]) == set(resources["limits"]) == names


def test_nobody_is_root(rayjob: dict[str, Any], volume: dict[str, Any]):
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.M)[-1]
    for pod in (*_pods(rayjob).values(), volume["Pod"]["spec"]):
        person, rights = pod["securityContext"], pod["containers"][0]["securityContext"]
        assert person["runAsNonRoot"] is True and person["runAsUser"] == int(user) > 0
        assert person["runAsGroup"] == person["fsGroup"] == int(group)
        assert person["seccompProfile"] == {"type": "RuntimeDefault"}
        assert rights == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert pod["automountServiceAccountToken"] is False


def test_the_submitter_does_not_restart(rayjob: dict[str, Any]):
    assert _pods(rayjob)["submitter"]["restartPolicy"] == "Never"  # a Kubernetes job wants it said


def test_the_image_holds_pinned_packages_and_the_project():
    assert re.findall(r"^FROM (\S+)$", DOCKERFILE, re.M) == ["python:3.11-slim"]
    assert all((ROOT / source).exists() for source in _copied())
    assert {"requirements.txt", "pyproject.toml", "LICENSE", "rddrs_dist", "jobs"} == _copied()
    packages, project, user, last = re.findall(r"^(?:RUN|USER) (.+)$", DOCKERFILE, re.M)
    assert packages == "pip install --requirement requirements.txt"
    assert project == "pip install --no-deps ."
    assert user.startswith("useradd --uid 1000 --user-group ") and last == "1000:1000"
