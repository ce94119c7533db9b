"""The "recall" API: it keeps short texts. A release of it is what the rest of this repository deploys."""
