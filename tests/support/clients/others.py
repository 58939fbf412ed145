"""What is not a function's life: its end, how the server is, and what appfn does not have."""

from support.clients.table import Steps, World

NOT_HERE = "general_not_implemented"

steps = Steps()


@steps.add("functions.listTemplates")
def list_templates(world: World) -> None:
    assert world.call("functions.listTemplates")["templates"] == []


@steps.add("functions.getTemplate", refused="function_template_not_found")
def get_template(world: World) -> None:
    world.call("functions.getTemplate", templateId="starter")


@steps.add("functions.createTemplateDeployment", refused=NOT_HERE)
def create_template_deployment(world: World) -> None:
    world.call(
        "functions.createTemplateDeployment",
        repository="templates",
        owner="appwrite",
        rootDirectory="node/starter",
        type="tag",
        reference="0.1.0",
    )


@steps.add("functions.createVcsDeployment", refused=NOT_HERE)
def create_vcs_deployment(world: World) -> None:
    world.call("functions.createVcsDeployment", type="branch", reference="main")


@steps.add("health.get")
def health(world: World) -> None:
    assert world.client.call("health.get")["status"] == "pass"


@steps.add("proxy.listRules")
def list_rules(world: World) -> None:
    assert world.client.call("proxy.listRules")["rules"] == []


OTHERS = (
    "health.getCache",
    "account.get",
    "databases.list",
    "locale.get",
    "messaging.listMessages",
    "migrations.list",
    "sites.list",
    "storage.listBuckets",
    "tablesDB.list",
    "teams.list",
    "users.list",
    "vcs.listInstallations",
    "webhooks.list",
)
"""A call of each service that appfn does not have."""


def _refused(call: str) -> None:
    steps.add(call, refused=NOT_HERE)(lambda world: world.client.call(call))


for _call in OTHERS:
    _refused(_call)


@steps.add("functions.delete")
def delete(world: World) -> None:
    world.call("functions.delete")
    assert world.refusal("functions.get") == "function_not_found"
