"""GraphQL over the table of operations: Appwrite's names, limits and forms of request."""
