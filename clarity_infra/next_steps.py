"""What does a person do after a run? Told by the stack's output and by the report; light to import, as every dynamic provider needs it."""

from __future__ import annotations

from clarity_infra import migration_url
from clarity_infra.settings import Settings


def next_steps(settings: Settings) -> list[str]:
    """What a person does after this run."""
    config = "pulumi config set stage"
    stay = [] if migration_url.is_switched(settings) else [step for step in [migration_url.next_step(settings)] if step]
    steps = {
        "provision": [f"{config} copy && pulumi up: make the verified copy; the application stays where it is"],
        "copy": [
            f"{config} cutover && pulumi up: writers wait shortly, then the application is on the new database",
            "pulumi destroy: undo everything",
        ],
        "cutover": [
            *_anew(settings),
            "try the application and watch it",
            f"{config} copy && pulumi up: go back; or pulumi destroy: undo everything",
            f"{config} cleanup && pulumi up: after {settings.configuration.monitoring_hours} h, back up and drop the old tables",
            *stay,
        ],
        "cleanup": stay or ["nothing: the move is done"],
    }
    return steps[settings.stage] + _steps_with_second_config(settings)


def _anew(settings: Settings) -> list[str]:
    """What nobody switches where there is no Hyperdrive: a process keeps the URL it was started with."""
    configuration = settings.configuration
    if configuration.cloudflare_account_id:
        return []
    given = "" if configuration.env_file else " with the new one (pulumi stack output databaseUrl --show-secrets)"
    return [f"start anew, at once, what was given DATABASE_URL when it started{given}: the old tables refuse its writes until then"]


def _steps_with_second_config(settings: Settings) -> list[str]:
    """Who is sent where by a second config: it follows the live side, the one before it stays on the old database."""
    configuration = settings.configuration
    if configuration.hyperdrive_way != "second-config":
        return []
    written = f" (npx wrangler deploy: {configuration.wrangler_file} has it)" if configuration.wrangler_file else ""
    early = (
        "the config of output hyperdriveId leads to the old database until the cut-over: an application that is deployed with it before"
        " is switched with it; one that is deployed with it later is refused its writes from the cut-over until then"
    )
    late = (
        f"unless it is already, deploy the application with the ID of output hyperdriveId{written}: by the config it had before it reads the"
        " old tables, and the fence refuses its writes"
    )
    back = "before pulumi destroy, deploy the application with the ID it had before: destroy deletes the second config"
    old = f" ({configuration.hyperdrive_id})" if configuration.hyperdrive_id else ""
    steps = {
        "provision": [early],
        "copy": [early, back],
        "cutover": [late, back],
        "cleanup": [f"delete the Hyperdrive config that the application had before{old}: its database has the tables no more"],
    }
    return steps[settings.stage]
