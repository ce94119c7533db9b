"""The database that both colors share: snapshot, restore, migration."""
