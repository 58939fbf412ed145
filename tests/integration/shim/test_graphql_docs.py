"""What docs/graphql.md shows is what happens."""

import asyncio
import json
import os
import re
from pathlib import Path

from support.shim_client import Client

GUIDE = Path(__file__).parents[3] / "docs" / "graphql.md"
EXAMPLE = re.compile(r"```sh\n(.+?)```\s+```json\n(.+?)```", re.DOTALL)


async def printed(command: str, client: Client) -> str:
    shell = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"ENDPOINT": f"{client.shim.base}/v1", "PROJECT": client.project, "KEY": client.key},
    )
    output, _ = await shell.communicate()
    assert shell.returncode == 0
    return output.decode()


async def test_the_guides_examples_answer_as_it_says(client: Client) -> None:
    examples = EXAMPLE.findall(GUIDE.read_text())

    assert len(examples) == GUIDE.read_text().count("```sh") == 3
    for command, expected in examples:
        assert json.loads(await printed(command, client)) == json.loads(expected)
