"""`poe dashboard`: ZenML's own dashboard on this machine, past its first-visit survey.

It has no log-in, so it listens on loopback only and answers nobody else (tools/dashboard_server.py).
"""

import os
import sys
import webbrowser
from typing import TYPE_CHECKING, cast

import click

from llm_engineering.domain.errors import LLMTwinError, StoreUnavailable
from llm_engineering.infrastructure.child_processes import only_minimal_environment
from tools.orchestrator import ROOT, prepare
from tools.terminal import say

if TYPE_CHECKING:
    from zenml.zen_server.deploy.deployer import LocalServerDeployer

START_SECONDS = 120
STOP = "`poe dashboard --stop`"


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8237, show_default=True)
@click.option("--no-open", is_flag=True, help="Only say where it is; open no browser.")
@click.option("--stop", is_flag=True, help="Stop the one that is running.")
def dashboard(port: int, no_open: bool, stop: bool) -> None:
    """Start the ZenML dashboard in the background, and open it."""
    prepare()
    if stop:
        say("stopped" if stop_server() else "none was running")
        return
    try:
        url = start_server(port)
    except LLMTwinError as error:
        say(error, err=True)
        sys.exit(1)
    say(f"{url}  (no log-in: whoever uses this machine may see and change every run; {STOP} ends it)")
    if not no_open:
        webbrowser.open(url)


def start_server(port: int) -> str:
    """Its address. A ZenML that is connected to a server of its own has its dashboard there.

    Raises StoreUnavailable when it does not come up.
    """
    from zenml.client import Client
    from zenml.enums import StoreType

    client = Client()
    if client.zen_store.type == StoreType.REST:
        return client.zen_store.url
    skip_survey()
    check_who_asks()
    from zenml.enums import ServerProviderType
    from zenml.zen_server.deploy.deployment import LocalServerDeploymentConfig
    from zenml.zen_server.deploy.exceptions import ServerDeploymentError

    config = LocalServerDeploymentConfig(provider=ServerProviderType.DAEMON, port=port)
    try:
        # not `zenml login --local`: that would send every later run through this server, and fail without it
        with only_minimal_environment(keep="ZENML_"):
            server = server_deployer().deploy_server(config, timeout=START_SECONDS)
    except (ServerDeploymentError, OSError) as error:
        raise StoreUnavailable(
            f"the dashboard did not start: {str(error).rstrip('.')}. Is port {port} free? Try --port"
        ) from error
    if not server.is_running or server.status is None:
        raise StoreUnavailable(f"the dashboard did not start on port {port}; is another program there? Try --port")
    return f"{server.status.url}/projects/{client.active_project.name}/runs"


def skip_survey() -> None:
    """The dashboard asks a newcomer for name and e-mail before it shows anything; this says it has been asked."""
    from zenml.client import Client
    from zenml.models import UserUpdate

    client = Client()
    user = client.active_user
    if not user.user_metadata.get("finished_onboarding_survey"):
        client.zen_store.update_user(
            user_id=user.id,
            user_update=UserUpdate(
                full_name=user.full_name or "LLM Twin",
                email_opted_in=False,
                user_metadata={"finished_onboarding_survey": True, "overview_tour_done": True},
            ),
        )


def check_who_asks() -> None:
    """ZenML has no setting for it: its daemon is started with our module in the place of its own."""
    from zenml.services.local import local_daemon_entrypoint
    from zenml.zen_server.deploy.daemon.daemon_zen_server import DaemonZenServer

    original = DaemonZenServer._get_daemon_cmd

    def guarded(server: DaemonZenServer) -> tuple[list[str], dict[str, str]]:
        command, environment = original(server)
        command.insert(command.index(local_daemon_entrypoint.__name__), "tools.dashboard_server")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
        return command, environment

    DaemonZenServer._get_daemon_cmd = guarded  # ty: ignore[invalid-assignment]


def server_deployer() -> "LocalServerDeployer":
    from zenml.zen_server.deploy.deployer import LocalServerDeployer

    return cast("LocalServerDeployer", LocalServerDeployer())  # ZenML's singletons claim to be classes


def stop_server() -> bool:
    """Whether there was one."""
    from zenml.zen_server.deploy.exceptions import ServerDeploymentNotFoundError

    deployer = server_deployer()
    try:
        running = deployer.get_server().is_running
    except ServerDeploymentNotFoundError:
        return False
    deployer.remove_server(timeout=START_SECONDS)
    return running


if __name__ == "__main__":
    dashboard()
