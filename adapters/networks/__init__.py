"""Parts that several families' networks are made of, under the names that published weights have."""
