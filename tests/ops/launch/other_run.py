"""A command line of a run, as another recipe would write it: one more service, and one that is somebody else's."""

import sys
from collections.abc import Iterator, Sequence

import typer

from slime_search.cli.launch import launch_command
from slime_search.ops.launch.checks import Problem, problems, taken_port
from slime_search.ops.launch.settings import Command, LaunchSettings, Service, is_here, port_of


class OtherSettings(LaunchSettings):
    session_name: str = "other-run"
    engine_url: str
    engine_timeout: float = 60
    engine_ready_path: str = "/"

    def services(self) -> Sequence[Service]:
        return [*super().services(), self._engine()]

    def training(self, options: Sequence[str]) -> Command:
        command = super().training(options)
        return Command(command.line, {**command.environment, "ENGINE": self.engine_url})

    def _engine(self) -> Service:
        line = [sys.executable, "-m", "http.server", str(port_of(self.engine_url)), "--bind", "127.0.0.1"]
        return Service(
            name="engine",
            command=Command(line, {"ONLY_THERE": "yes it is"}) if is_here(self.engine_url) else None,
            url=self.engine_url,
            ready_path=self.engine_ready_path,
            timeout_s=self.engine_timeout,
            timeout_variable="ENGINE_TIMEOUT",
            log_prefix="engine",
        )


def _problems(settings: OtherSettings, *, own_script: bool) -> Iterator[Problem]:
    yield from problems(settings, own_script=own_script)
    if is_here(settings.engine_url):
        yield from taken_port(settings.engine_url, "ENGINE_URL")


app = typer.Typer()
app.command(help="Runs a training with two services.")(launch_command(OtherSettings, _problems))

if __name__ == "__main__":
    app()
