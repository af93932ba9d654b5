"""The command line of the simulated server."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.sim.profiles import Profile


class ProfileName(StrEnum):
    """The kinds of engine there are."""

    GPU = "gpu"
    CPU = "cpu"


def sim(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    control_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="A second port for /sim, up even while the first one refuses."),
    ] = None,
    profile: Annotated[ProfileName, typer.Option(help="Speed and size of the engine.")] = ProfileName.GPU,
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Override a number of the profile: num_blocks=4096; repeatable."),
    ] = None,
    model: Annotated[str, typer.Option(help="Name of the model it serves.")] = "sim-model",
    served_alias: Annotated[list[str] | None, typer.Option(help="Another name for the model; repeatable.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="Name of a LoRA adapter it serves; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice: answers, lengths, faults.")] = 0,
    time_scale: Annotated[float, typer.Option(min=0, help="Multiplies every duration; 0 is as fast as it can.")] = 1.0,
    output_tokens: Annotated[
        int | None, typer.Option(min=1, help="Length at which answers end by themselves, in tokens.")
    ] = None,
    max_num_queued_reqs: Annotated[
        int | None, typer.Option(min=0, help="Answer 503 when this many requests wait.")
    ] = None,
    api_key: Annotated[list[str] | None, typer.Option(help="Require one of these keys under /v1; repeatable.")] = None,
    startup_seconds: Annotated[float, typer.Option(min=0, help="Refuse connections for this long at the start.")] = 0.0,
    sse_keep_alive_interval: Annotated[
        float | None, typer.Option(min=0.01, help="Seconds of silence in a stream before a comment is sent.")
    ] = None,
    reasoning: Annotated[bool, typer.Option(help="Think before every chat answer.")] = False,
    reasoning_field: Annotated[
        str, typer.Option(help="`reasoning`, or `reasoning_content` as in older releases.")
    ] = "reasoning",
    enable_request_id_headers: Annotated[bool, typer.Option(help="Answer with x-request-id.")] = False,
    enable_prompt_tokens_details: Annotated[bool, typer.Option(help="Report cached prompt tokens in usage.")] = False,
    old_metric_names: Annotated[bool, typer.Option(help="Name metrics as vLLM did before 0.12.")] = False,
    enable_sleep_mode: Annotated[
        bool, typer.Option(help="Serve /sleep, /wake_up and /is_sleeping, as vLLM in development mode.")
    ] = False,
    wake_seconds: Annotated[float, typer.Option(min=0, help="How long waking up takes.")] = 0.0,
) -> None:
    """Run one simulated vLLM server."""
    from gateway.sim.server import run  # noqa: PLC0415 - the command line answers without loading a server
    from gateway.sim.settings import Settings  # noqa: PLC0415

    settings = Settings(
        host=host,
        port=port,
        control_port=control_port,
        profile=_profile(profile, engine or []),
        models=(model, *(served_alias or ())),
        adapters=tuple(lora or ()),
        seed=seed,
        time_scale=time_scale,
        startup_seconds=startup_seconds,
        output_tokens=output_tokens,
        sse_keep_alive_interval=sse_keep_alive_interval,
        max_num_queued_reqs=max_num_queued_reqs,
        api_keys=tuple(api_key or ()),
        reasoning=reasoning,
        reasoning_field=reasoning_field,
        request_id_headers=enable_request_id_headers,
        prompt_tokens_details=enable_prompt_tokens_details,
        old_metric_names=old_metric_names,
        sleep_mode=enable_sleep_mode,
        wake_seconds=wake_seconds,
    )
    try:
        run(settings)
    except OSError as error:
        typer.echo(error.strerror or str(error), err=True)
        raise typer.Exit(1) from None


def _profile(name: ProfileName, changes: list[str]) -> "Profile":
    from gateway.sim.profiles import CPU, GPU, customised  # noqa: PLC0415

    try:
        return customised(GPU if name is ProfileName.GPU else CPU, changes)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--engine") from None
