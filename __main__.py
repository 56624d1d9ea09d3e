"""Moves an application's tables into a database of their own. One stack is one environment; `stage` says how far it is.

Every stage declares the same resources; a stage changes inputs, never the set. Going back is an update of `Cutover`; `pulumi
destroy` begins with the delete of `Rollback`, the last resource here.
"""

import json

import pulumi

from clarity_infra import outputs, program
from clarity_infra.database import ClarityDatabase, Password
from clarity_infra.database_settings import AUDIT
from clarity_infra.hyperdrive import HyperdriveConfig, OriginAuthority, new_mtls, new_origin, old_caching, old_mtls, old_origin
from clarity_infra.next_steps import next_steps
from clarity_infra.resources.access_check import AccessCheck
from clarity_infra.resources.claim import Claim
from clarity_infra.resources.cutover import Cutover
from clarity_infra.resources.database_copy import DatabaseCopy
from clarity_infra.resources.database_settings import DatabaseSettings
from clarity_infra.resources.env_file import EnvFileResource
from clarity_infra.resources.old_login import OldLogin
from clarity_infra.resources.rollback import Rollback
from clarity_infra.resources.source_cleanup import SourceCleanup
from clarity_infra.resources.way_back import WayBack
from clarity_infra.resources.wrangler_file import WranglerFileResource
from clarity_infra.secret import secret


def after(*resources: pulumi.Resource) -> pulumi.ResourceOptions:
    """Options of a resource that waits for others it takes no value from."""
    return pulumi.ResourceOptions(depends_on=list(resources))


# What is wanted, what is there, and whether the one may follow the other: a refusal ends the program here.
settings, found = program.begin()
configuration, stack = settings.configuration, settings.stack

# What the way back needs, and that database and roles are this stack's to make: recorded before anything is changed.
way_back = WayBack("way-back", **program.way_back_inputs(settings, found))
claim = Claim("claim", **program.claim_inputs(settings, found))

# Database, roles, privileges, audit log.
password = Password("password", settings)
database = ClarityDatabase("clarity", settings, password, found.existing, after(claim, way_back))
audit = DatabaseSettings(
    "settings",
    after(*database.ready),
    stack=stack,
    database=configuration.database,
    values=AUDIT if configuration.audit_log else {},
)

# The verified copy, the privileges on what it made, and the proof that they are the right ones.
copy = DatabaseCopy("copy", after(*database.ready, audit), **program.copy_inputs(settings, found))
granted = database.grant_tables(copy)
access = AccessCheck("access", after(*granted), password=password.clear, **program.access_inputs(settings, found))
# What names a login takes it from the proof, so that none is named, and no other ended, alone (`pulumi up --target`) before it lets in.
login, proved = access.user, secret(access.password)

# The switch: rows, fence, migrations, Hyperdrive's origin and `.env` by `Cutover`, then what Pulumi declares follows it.
recorded, access_secret = way_back.hyperdrive, way_back.originAccessSecret
old = secret(pulumi.Output.all(recorded, way_back.originPassword, access_secret).apply(lambda known: old_origin(*known)))
new = secret(pulumi.Output.all(recorded, proved, access_secret, login).apply(lambda known: new_origin(known[0], settings, *known[1:])))
authority = OriginAuthority("origin-ca", settings) if configuration.hyperdrive_ca_file else None
mtls = {
    "oldMtls": recorded.apply(old_mtls),
    "newMtls": pulumi.Output.all(recorded, authority.id if authority else "").apply(lambda known: new_mtls(known[0], settings, known[1])),
}
origins = {"oldOrigin": old, "newOrigin": new, **mtls, "caching": recorded.apply(old_caching), **program.switch_inputs(settings)}
url = pulumi.Output.all(login, proved).apply(lambda known: settings.target.with_login(*known).url())
env_inputs = {
    "path": program.env_path(settings),
    "values": secret(url.apply(lambda text: json.dumps(program.env_values(settings, text)))),
    "before": way_back.envBefore,
    "variables": program.env_variables(settings),
    "logins": list(settings.rotation.logins),
}
cutover = Cutover("cutover", after(access), **program.side_inputs(settings, found), **origins, **env_inputs)
# What follows the switch takes the side from it, so that none of it goes over alone (`pulumi up --target`) where rows and fence did not.
side = cutover.side
config = (
    HyperdriveConfig(
        "hyperdrive-second" if configuration.hyperdrive_way == "second-config" else "hyperdrive",
        settings,
        recorded=recorded,
        origin=program.of_side(side, old, new),
        mtls=program.of_side(side, mtls["oldMtls"], mtls["newMtls"]),
        seen=not found.unseen,
        after=[cutover],
    )
    if configuration.cloudflare_account_id
    else None
)
env_file = EnvFileResource("env-file", after(cutover, *([config] if config else [])), side=side, **env_inputs)

wrangler = program.wrangler_inputs(settings)
wrangler_file = (
    [WranglerFileResource("wrangler-file", after(cutover), stack=stack, side=side, hyperdriveId=config.id, **wrangler)]
    if wrangler and config
    else []
)

# The end of the move, and the way back from anywhere before it.
cleanup = SourceCleanup("source-cleanup", after(env_file), **program.cleanup_inputs(settings, cutover.evidence))
old_login = OldLogin("old-login", after(access, cleanup, *wrangler_file), **program.old_login_inputs(settings, found, login))
Rollback("rollback", after(old_login, cleanup, env_file, copy, access, *wrangler_file), **origins, **env_inputs)

pulumi.export("stage", settings.stage)
pulumi.export("database", configuration.database)
pulumi.export("user", configuration.user)
pulumi.export("login", login)
pulumi.export("databaseUrl", secret(url))
pulumi.export("readWriteUrl", program.read_write_url(settings, password))
pulumi.export("hyperdriveId", config.id if config else None)
pulumi.export("hyperdrive", {"id": config.id, **program.origins_shown(settings, recorded)} if config else None)
done = {"copy": copy.evidence, "cutover": cutover.evidence, "cleanup": cleanup.evidence}
for title, line in outputs.summary(**done).items():
    pulumi.export(title, line)
pulumi.export("evidence", outputs.evidence(access=access.found, **done))
pulumi.export("warnings", audit.warnings)
pulumi.export("advice", outputs.advice(audit.advice, access.found))
pulumi.export("cloudflareAddresses", program.addresses(settings, found))
pulumi.export("nextSteps", next_steps(settings))
pulumi.export("summary", outputs.text(settings.stage, next_steps(settings), **done))
pulumi.export("readme", outputs.readme(hyperdrive=config is not None))
