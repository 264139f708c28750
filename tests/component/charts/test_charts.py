"""The charts, linted and rendered by Helm's own engine and checked against the schemas of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from ric.config import load_config, validate
from ric.platform import RicConfig

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "twinric"
APPS = ("demand-twin", "storage-scheduling", "hems-load", "slice-bandwidth", "microgrid-guard", "fault-alarm")
KUBERNETES = ("1.27", "1.34")

EXTERNAL: dict[str, Any] = {
    "global": {
        "image": {"registry": "registry.example.org/grid/", "tag": "1.2.3", "pullSecrets": ["puller"]},
        "kafka": {
            "servers": "kafka-0.example.org:9093,kafka-1.example.org:9094",
            "securityProtocol": "SASL_SSL",
            "saslUsername": "twinric",
            "secretName": "kafka-access",
        },
    },
    "kafka": {"enabled": False},
    "e2sim": {"enabled": False},
    "ric": {
        "tokenKeySecretName": "token-key",
        "persistence": {"existingClaim": "policies"},
        "config": {"priorities": {"slice_bandwidth": 2}, "ves_url": "https://ves.example.org/eventListener/v7"},
        "secretMounts": [{"secretName": "ves-access", "mountPath": "/etc/twinric/ves"}],
    },
    "storage-scheduling": {"a1TokenSecretName": "a1-token"},
    "fault-alarm": {
        "e3": {"setup": "tcp://10.0.0.9:9990", "inbound": "tcp://10.0.0.9:9999", "outbound": "tcp://10.0.0.9:9991"},
        "network": {"alsoTo": [{"to": [{"ipBlock": {"cidr": "10.0.0.9/32"}}]}]},
        "nodeSelector": {"twinric/du": "true"},
        "tolerations": [{"key": "du", "operator": "Exists"}],
        "priorityClassName": "real-time",
    },
}
ONE_APP: dict[str, Any] = {
    **{name: {"enabled": False} for name in (*APPS, "e2sim", "kafka", "ric")},
    "hems-load": {"enabled": True, "config": {"quarter_steps": 48, "e2_address": "ric.example.org:5151"}},
    "global": {"kafka": {"servers": "kafka.example.org:9092"}, "networkPolicies": False},
}
TRIAL: dict[str, Any] = {
    "kafka": {"persistence": {"enabled": False}},
    "ric": {"persistence": {"enabled": False}},
    "e2sim": {"scenario": "custom", "scenarioText": "name: mine\nseed: 1\n", "speed": 10},
}
VALUES = {"defaults": {}, "external brokers": EXTERNAL, "one app": ONE_APP, "trial": TRIAL}


def objects(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every object that the chart makes of `values`; loaded anew, since rendering drops what is switched off."""
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(dict(values), name="trial", namespace="grid")
    texts = [text for path, text in rendered.items() if not path.endswith(".txt")]
    return [item for text in texts for item in yaml.safe_load_all(text) if item]


def of_kind(found: list[dict[str, Any]], *kinds: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in found if item["kind"] in kinds}


def pods(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    workloads = of_kind(found, "Deployment", "StatefulSet")
    return {name: item["spec"]["template"]["spec"] for name, item in workloads.items()}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_lint_finds_nothing_to_correct(values: dict[str, Any]) -> None:
    report = helm_python.lint(CHART, values, strict=True, with_subcharts=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_dependencies_are_all_in_the_chart() -> None:
    assert {entry["status"] for entry in helm_python.dependency_list(CHART)} == {"unpacked"}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_every_manifest_is_valid_kubernetes(values: dict[str, Any], version: str) -> None:
    found = objects(values)
    assert found
    for item in found:
        kubernetes_validate.validate(item, version, strict=True)


def test_defaults_run_every_component() -> None:
    assert set(pods(objects({}))) == {f"trial-{name}" for name in (*APPS, "ric", "e2sim", "kafka")}


def test_one_app_can_be_installed_alone() -> None:
    found = objects(ONE_APP)
    assert set(pods(found)) == {"trial-hems-load"}
    assert of_kind(found, "NetworkPolicy") == {}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_every_container_is_confined(values: dict[str, Any]) -> None:
    for name, pod in pods(objects(values)).items():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not any("hostPath" in volume for volume in pod["volumes"]), name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["limits"]), name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert {"livenessProbe", "readinessProbe"} <= set(container), name


def test_apps_and_ric_are_probed_over_http() -> None:
    found = pods(objects({}))
    for name in (*APPS, "ric"):
        container = found[f"trial-{name}"]["containers"][0]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
        assert {"name": "health", "containerPort": 8080} in container["ports"]


def test_commands_start_modules_that_exist() -> None:
    for name, pod in pods(objects({})).items():
        command = pod["containers"][0]["command"]
        if name == "trial-kafka":
            continue
        assert command[:2] == ["python", "-m"]
        assert ROOT.joinpath(*command[2].split("."), "__main__.py").is_file(), command[2]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_config_maps_are_what_the_components_accept(descriptors: ModuleType, values: dict[str, Any]) -> None:
    models = {entry.name.replace("_", "-"): entry.load().config_type for entry in descriptors.app_entries()}
    models["ric"] = RicConfig
    maps = of_kind(objects(values), "ConfigMap")
    checked = [name for name in models if f"trial-{name}" in maps]
    assert checked
    for name in checked:
        settings = yaml.safe_load(maps[f"trial-{name}"]["data"]["config.yaml"])
        config = validate(models[name], settings, "CONFIG")
        assert config.health_port == 8080


def test_settings_lead_to_the_release_and_may_be_overridden() -> None:
    maps = of_kind(objects({}), "ConfigMap")
    hems = yaml.safe_load(maps["trial-hems-load"]["data"]["config.yaml"])
    assert (hems["bus_url"], hems["e2_address"]) == ("kafka://trial-kafka:9092", "trial-ric:5151")
    alone = yaml.safe_load(of_kind(objects(ONE_APP), "ConfigMap")["trial-hems-load"]["data"]["config.yaml"])
    assert alone["bus_url"] == "kafka://kafka.example.org:9092"
    assert (alone["e2_address"], alone["quarter_steps"]) == ("ric.example.org:5151", 48)


def test_a_changed_setting_restarts_the_pod() -> None:
    def checksum(values: dict[str, Any]) -> str:
        deployment = of_kind(objects(values), "Deployment")["trial-hems-load"]
        return str(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({})
    assert checksum({}) != checksum({"hems-load": {"config": {"quarter_steps": 48}}})


def test_secrets_are_only_referred_to() -> None:
    found = objects(EXTERNAL)
    assert of_kind(found, "Secret") == {}
    ric = pods(found)["trial-ric"]
    mounted = {volume["secret"]["secretName"] for volume in ric["volumes"] if "secret" in volume}
    assert mounted == {"kafka-access", "token-key", "ves-access"}
    environment = {item["name"]: item.get("value") for item in ric["containers"][0]["env"]}
    assert environment["TWINRIC_KAFKA__SASL_PASSWORD_FILE"] == "/etc/twinric/kafka/password"
    token = pods(found)["trial-storage-scheduling"]["volumes"]
    assert {"secretName": "a1-token", "defaultMode": 0o440} in [volume.get("secret") for volume in token]


# kafka-python 3.0 reads its schemas with calls that Python 3.11 marks as deprecated.
@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")
def test_kafka_environment_is_what_the_bus_reads() -> None:
    from ric.bus.kafka_clients import KafkaSettings

    pod = pods(objects(EXTERNAL))["trial-hems-load"]
    environment = {item["name"]: item["value"] for item in pod["containers"][0]["env"] if "value" in item}
    settings = load_config(KafkaSettings, None, "TWINRIC_KAFKA", environment)
    assert (settings.security_protocol, settings.sasl_username) == ("SASL_SSL", "twinric")
    assert str(settings.ca_file) == "/etc/twinric/kafka/ca.crt"


def test_network_policies_let_in_only_who_is_named() -> None:
    policies = of_kind(objects({}), "NetworkPolicy")
    assert set(policies) == {f"trial-{name}" for name in (*APPS, "ric", "e2sim", "kafka")}
    for policy in policies.values():
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        assert all(rule.get("from") for rule in policy["spec"]["ingress"])
    rules = {rule["ports"][0]["port"]: rule["from"] for rule in policies["trial-ric"]["spec"]["ingress"]}
    allowed = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rules[5151]]
    assert sorted(allowed) == ["hems-load", "microgrid-guard", "slice-bandwidth"]
    external = of_kind(objects(EXTERNAL), "NetworkPolicy")["trial-hems-load"]["spec"]["egress"]
    assert {"ports": [{"protocol": "TCP", "port": 9093}, {"protocol": "TCP", "port": 9094}]} in external


def test_simulator_reaches_the_bus_over_which_homes_may_be_told() -> None:
    external = EXTERNAL | {"e2sim": {"enabled": True}}
    for values, servers in (({}, "trial-kafka:9092"), (external, EXTERNAL["global"]["kafka"]["servers"])):
        found = objects(values)
        command = pods(found)["trial-e2sim"]["containers"][0]["command"]
        assert command[command.index("--bus") + 1] == f"kafka://{servers}"
        ports = [port["port"] for rule in of_kind(found, "NetworkPolicy")["trial-e2sim"]["spec"]["egress"]
                 for port in rule["ports"]]  # fmt: skip
        assert {int(server.rpartition(":")[2]) for server in servers.split(",")} <= set(ports)


def test_services_select_their_pods() -> None:
    found = objects({})
    for name, service in of_kind(found, "Service").items():
        workload = of_kind(found, "Deployment", "StatefulSet")[name]
        assert service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"hems-load": {"enabld": True}}, "enabld"),
        ({"hems_load": {"enabled": True}}, "hems_load"),
        ({"hems-load": {"config": {"quarter_steps": 3}}}, "quarter_steps"),
        ({"hems-load": {"config": {"horizon_step": 48}}}, "horizon_step"),
        ({"slice-bandwidth": {"config": {"granularity_period_ms": "fast"}}}, "granularity_period_ms"),
        ({"ric": {"config": {"a1_port": 70_000}}}, "a1_port"),
        ({"ric": {"config": {"alarm_delays": {"raise_delay_s": -1}}}}, "raise_delay_s"),
        ({"global": {"kafka": {"securityProtocol": "TLS"}}}, "securityProtocol"),
        ({"global": {"kafka": {"servers": "kafka.example.org"}, "image": {}}, "kafka": {"enabled": False}}, "servers"),
        ({"ric": {"resources": {"requests": {"memory": "lots"}}}}, "memory"),
        ({"e2sim": {"speed": -1}}, "speed"),
        ({"ric": {"secretMounts": [{"secretName": "x", "mountPath": "etc"}]}}, "mountPath"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_values_are_refused_with_the_key_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm_python.HelmError, match=named):
        objects(values)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kafka": {"enabled": False}}, "name external brokers or switch the trial broker on"),
        ({"global": {"kafka": {"servers": "kafka.example.org:9092"}}}, "set kafka.enabled=false as well"),
        ({"global": {"kafka": {"securityProtocol": "SASL_SSL"}}}, "set global.kafka.saslUsername"),
        ({"global": {"allowPlainText": False}}, "set ric.config.tls"),
        ({"e2sim": {"scenario": "custom"}}, "e2sim.scenarioText"),
    ],
    ids=["no broker", "two brokers", "SASL without a secret", "neither TLS nor plain text", "no scenario"],
)
def test_values_that_do_not_go_together_say_what_to_do(values: dict[str, Any], text: str) -> None:
    with pytest.raises(helm_python.HelmError, match=text):
        objects(values)
