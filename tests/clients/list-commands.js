// Prints the commands of an installed Appwrite CLI and their options as JSON: {service: {command: [option]}}.
//
// node list-commands.js FOLDER
"use strict";
const fs = require("node:fs");
const path = require("node:path");

const folder = path.join(process.argv[2], "node_modules", "appwrite-cli", "lib", "commands");
const found = {};
for (const file of fs.readdirSync(folder)) {
  for (const command of Object.values(require(path.join(folder, file)))) {
    if (!Array.isArray(command?.commands) || !command.commands.length) continue;
    const options = (sub) => sub.options.map((option) => option.long.replace(/^--/, ""));
    found[command.name()] = Object.fromEntries(command.commands.map((sub) => [sub.name(), options(sub)]));
  }
}
console.log(JSON.stringify(found));
