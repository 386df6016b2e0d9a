"""The jobs process and its workers, which compute calibrations and trainings in the background."""
