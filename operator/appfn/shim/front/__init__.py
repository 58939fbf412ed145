"""The front of the shim: executions of the usual form are answered on the connection itself, all else by aiohttp.

A POST of an execution whose head has been seen before costs a look into a table instead of parsing, routing and
authenticating it anew. Whatever is out of the ordinary about a request, or not whole, hands its connection to aiohttp
for good, bytes and all: so everything that HTTP allows works as aiohttp does it, and nothing here has to know it.
"""
