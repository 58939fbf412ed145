"""From what happened to the executions of those functions that subscribe to it."""
