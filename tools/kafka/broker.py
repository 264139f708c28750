"""One Apache Kafka node (KRaft: broker and controller in one) for tests and trials.

    python tools/kafka/broker.py start [--port 9092]   in the background; prints the address once it answers
    python tools/kafka/broker.py stop
    python tools/kafka/broker.py run [--port 9092]     in the foreground

In Python: `with broker() as node:` gives a fresh node on a free port, `node.address` is host:port; `node.kill()`,
`node.stop()` and `node.start()` (same data, same port) are for tests of broker loss.

Which Kafka: the one at TWINRIC_KAFKA=host:port if that is set; else Kafka's own jars, fetched once by Maven into
.kafka/, where there are Java and Maven; else a container where there is Docker; else BrokerError.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent
HOME = HERE.parent.parent / ".kafka"
IMAGE = "apache/kafka:4.1.0"
START_S = 180.0
STOP_S = 20.0
JVM = ["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class BrokerError(RuntimeError):
    """No broker could be had, and why."""


class Node(Protocol):
    """A running Kafka node."""

    address: str

    def start(self) -> None:
        """Return once the node answers. Raises BrokerError."""

    def stop(self) -> None:
        """End it in order; its data stay."""

    def kill(self) -> None:
        """End it at once (SIGKILL); its data stay."""


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that are free now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def answers(address: str) -> bool:
    """True when something accepts connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def fetch() -> Path:
    """The folder of Kafka's jars; Maven fetches them once. Raises BrokerError."""
    jars = HOME / "lib"
    mark = jars / ".complete"
    wanted = (HERE / "pom.xml").read_text(encoding="utf-8")
    HOME.mkdir(exist_ok=True)
    with (HOME / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
            return jars
        shutil.rmtree(jars, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerError(f"Maven could not fetch Kafka:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        mark.write_text(wanted, encoding="utf-8")
    return jars


class JavaNode:
    """Kafka's own jars in a Java process."""

    def __init__(self, folder: Path, port: int, controller_port: int, *, outlives_us: bool = False) -> None:
        self.address = f"127.0.0.1:{port}"
        # A test's node shares our process group, so that whatever ends a cut-off test run ends it too.
        self._new_session = outlives_us
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._log = folder / "broker.log"
        self._settings = folder / "server.properties"
        jars = fetch()
        self._java = ["java", *JVM, f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}", "-cp", f"{jars}/*"]
        if not self._settings.is_file():
            self._format(port, controller_port)

    def _format(self, port: int, controller_port: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "log.dirs": str(self._folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A killed node must be forgotten before it may register again.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
        }
        self._settings.write_text("".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8")
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # In one word with its option: an id may begin with a dash.
        options = [f"--cluster-id={cluster_id}", "-c", str(self._settings)]
        command = [*self._java, "kafka.tools.StorageTool", "format", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerError(f"Kafka could not format its storage:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    def start(self) -> None:
        """Return once the node answers. Raises BrokerError."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._java, "kafka.Kafka", str(self._settings)],
                stdout=log,
                stderr=log,
                start_new_session=self._new_session,
            )
        limit_s = time.monotonic() + START_S
        while not answers(self.address):
            if self.process.poll() is not None or time.monotonic() > limit_s:
                self.kill()
                raise BrokerError(f"Kafka did not start:\n{self._log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in order; its data stay."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """End it at once (SIGKILL); its data stay."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class DockerNode:
    """Kafka's own image in a container."""

    def __init__(self, name: str, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._name = name
        settings = {
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_NODE_ID": "1",
            "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        }
        options = [part for key, value in settings.items() for part in ("-e", f"{key}={value}")]
        self._docker("create", "--name", name, "-p", f"127.0.0.1:{port}:{port}", *options, IMAGE)

    @staticmethod
    def _docker(*arguments: str, check: bool = True) -> None:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise BrokerError(f"docker {arguments[0]} failed: {done.stderr[-2000:]}")

    def start(self) -> None:
        """Return once the node answers. Raises BrokerError."""
        self._docker("start", self._name)
        limit_s = time.monotonic() + START_S
        while not answers(self.address):
            if time.monotonic() > limit_s:
                raise BrokerError("Kafka's container did not answer")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in order; its data stay."""
        self._docker("stop", self._name, check=False)

    def kill(self) -> None:
        """End it at once; its data stay."""
        self._docker("kill", self._name, check=False)

    def remove(self) -> None:
        """Remove the container and its data."""
        self._docker("rm", "-f", "-v", self._name, check=False)


class GivenNode:
    """The broker that TWINRIC_KAFKA names: not ours, so not ours to stop."""

    def __init__(self, address: str) -> None:
        self.address = address

    def start(self) -> None:
        """Raises BrokerError when it does not answer."""
        if not answers(self.address.split(",")[0]):
            raise BrokerError(f"TWINRIC_KAFKA={self.address} does not answer")

    def stop(self) -> None:
        """Leave it alone."""

    def kill(self) -> None:
        """Raises BrokerError: a given broker cannot be killed."""
        raise BrokerError(f"TWINRIC_KAFKA={self.address} is not ours to kill; unset it for tests of broker loss")


def kind(*, own: bool = False) -> str:
    """How a broker can be had here: "given" (unless `own`), "java" or "docker". Raises BrokerError."""
    if os.environ.get("TWINRIC_KAFKA") and not own:
        return "given"
    if shutil.which("java") and shutil.which("mvn"):
        return "java"
    if shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "docker"
    raise BrokerError("no Kafka: install Java 17 and Maven, or Docker, or set TWINRIC_KAFKA=host:port")


@contextmanager
def broker(*, own: bool = False) -> Iterator[Node]:
    """A started Kafka node, gone afterwards. `own`: never the given one (a test that kills it). Raises BrokerError."""
    found = kind(own=own)
    if found == "given":
        given = GivenNode(os.environ["TWINRIC_KAFKA"])
        given.start()
        yield given
        return
    port, controller_port = free_ports(2)
    if found == "docker":
        container = DockerNode(f"twinric-kafka-{port}", port)
        try:
            container.start()
            yield container
        finally:
            container.remove()
        return
    HOME.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="node-", dir=HOME))
    try:
        node = JavaNode(folder, port, controller_port)
        try:
            node.start()
            yield node
        finally:
            node.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command_start(port: int, *, wait: bool) -> None:
    found = kind()
    if found == "given":
        GivenNode(os.environ["TWINRIC_KAFKA"]).start()
        print(os.environ["TWINRIC_KAFKA"])
        return
    if answers(f"127.0.0.1:{port}"):
        raise BrokerError(f"something answers at 127.0.0.1:{port} already")
    if found == "docker":
        container = DockerNode("twinric-kafka", port)
        container.start()
        print(container.address)
        return
    node = JavaNode(HOME / f"broker-{port}", port, free_ports(1)[0], outlives_us=not wait)
    node.start()
    if node.process is None:
        raise BrokerError("Kafka ended at once")
    print(node.address, flush=True)
    if not wait:
        (HOME / "broker.pid").write_text(str(node.process.pid), encoding="utf-8")
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        node.process.wait()
    except KeyboardInterrupt:
        node.stop()


def _command_stop() -> None:
    pid_file = HOME / "broker.pid"
    if pid_file.is_file():
        try:
            os.kill(int(pid_file.read_text(encoding="utf-8")), signal.SIGTERM)
        except ProcessLookupError:
            print("it had ended before")
        pid_file.unlink()
    elif shutil.which("docker"):
        subprocess.run(["docker", "rm", "-f", "-v", "twinric-kafka"], check=False, capture_output=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Start, run or stop the trial broker."""
    parser = argparse.ArgumentParser(description="One Apache Kafka node for tests and trials.")
    parser.add_argument("command", choices=["fetch", "start", "run", "stop"])
    parser.add_argument("--port", type=int, default=9092)
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            if kind() == "java":
                print(fetch())
        elif options.command == "stop":
            _command_stop()
        else:
            _command_start(options.port, wait=options.command == "run")
    except BrokerError as error:
        sys.exit(f"kafka: {error}")


if __name__ == "__main__":
    main()
