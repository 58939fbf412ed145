"""The generations of the open-runtimes protocol: pure translations between an invocation and HTTP."""
