"""The release as a state machine: plan, preflight, deploy, migrate, switch, finish, revert, rollback."""
