"""What an agent can call: a retriever, a web search, another agent."""
