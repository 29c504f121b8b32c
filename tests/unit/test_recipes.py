"""Containers, workflows of GitHub and the entry in Snakemake's catalog: what can be checked here."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

WORKFLOWS = ["check.yml", "docs.yml", "macos.yml"]


def run(*command, cwd):
    answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    return answer.returncode, answer.stdout + answer.stderr


def tool(name):
    """A program of this environment, also where it is not on the path."""
    return f"{sys.prefix}/bin/{name}"


def commands(dockerfile):
    """What the RUN lines of a Dockerfile run, each on one line."""
    joined = re.sub(r"\\\n\s*", "", dockerfile)
    return [line.removeprefix("RUN ") for line in joined.splitlines() if line.startswith("RUN ")]


@pytest.fixture
def dockerfile(root):
    return (root / "envs/Dockerfile").read_text(encoding="utf-8")


def test_the_dockerfile_is_without_faults(root):
    status, said = run(tool("hadolint"), "envs/Dockerfile", cwd=root)
    assert status == 0, said


def test_both_containers_are_the_same(root, dockerfile):
    recipe = (root / "envs/replica.def").read_text(encoding="utf-8")
    (base,) = re.findall(r"^FROM (\S+)$", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert f"\nFrom: {base}\n" in recipe
    section = recipe.partition("%post\n")[2].partition("\n\n%")[0]
    post = [line.strip() for line in re.sub(r"\\\n\s*", "", section).splitlines()]
    assert post == commands(dockerfile)
    (copied,) = re.findall(r"^COPY (\S+) (\S+)$", dockerfile, re.MULTILINE)
    assert " ".join(copied) in recipe and (root / copied[0]).exists()
    kept = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert f"!{copied[0]}" in kept


@pytest.mark.slow
def test_the_commands_of_the_container_work_in_a_clean_folder(root, dockerfile, tmp_path):
    """All that need no root, with one package of the lock."""
    lock = (root / "envs/requirements.txt").read_text(encoding="utf-8")
    package = re.search(r"^threadpoolctl==.*?(?=^\S)", lock, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "requirements.txt").write_text(package)
    (command,) = [line for line in commands(dockerfile) if "apt-get" not in line]
    command = command.replace("/opt/replica", shlex.quote(str(tmp_path)))
    command = command.replace("python -m", f"{shlex.quote(sys.executable)} -m", 1)
    status, said = run("sh", "-ec", command, cwd=tmp_path)
    if status and re.search("No matching distribution|Temporary failure|Connection", said):
        pytest.skip("no index of packages answers here")
    assert status == 0, said
    status, said = run(f"{tmp_path}/venv/bin/python", "-c", "import threadpoolctl", cwd=tmp_path)
    assert status == 0, said


def test_the_workflows_of_github_are_without_faults(root):
    paths = sorted((root / ".github/workflows").glob("*.yml"))
    assert [path.name for path in paths] == WORKFLOWS
    status, said = run(tool("yamllint"), "--strict", *map(str, paths), cwd=root)
    assert status == 0, said
    schema = ["--builtin-schema", "vendor.github-workflows"]
    status, said = run(tool("check-jsonschema"), *schema, *map(str, paths), cwd=root)
    assert status == 0, said


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_pins_its_actions_and_calls_what_make_knows(root, name):
    workflow = yaml.safe_load((root / f".github/workflows/{name}").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", s["uses"]) for s in steps if "uses" in s)
    for step in steps:
        if "run" in step:
            words = shlex.split(step["run"])
            target = next((w for w in words[1:] if "=" not in w), "all")
            makefile = (root / "Makefile").read_text(encoding="utf-8")
            assert words[0] == "make" and re.search(
                rf"^[^\n#=]*\b{target}\b[^\n]*:", makefile, re.M
            )


def test_what_the_catalog_of_snakemake_asks_for_is_there(root):
    entry = yaml.safe_load((root / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    usage = entry["usage"]
    assert usage["report"] is True and usage["software-stack-deployment"]["conda"] is True
    for name in ("workflow/Snakefile", "config/README.md", "README.md", "LICENSE"):
        assert (root / name).exists(), name
    readme = (root / "README.md").read_text(encoding="utf-8").lower()
    assert "snakemake" in readme and "workflow" in readme
    settings = (root / "config/README.md").read_text(encoding="utf-8")
    keys = yaml.safe_load((root / "config/config.yaml").read_text(encoding="utf-8"))
    assert all(f"`{key}`" in settings for key in keys)
