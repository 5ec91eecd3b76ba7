"""The command line up to the point where something is made."""

from synthrad.cli import SynthradCLI


class CheckingCLI(SynthradCLI):
    """Parses and checks everything, then makes nothing: the tests of the shipped configs."""

    def instantiate_classes(self) -> None:
        """Make nothing."""

    def before_instantiate_classes(self) -> None:
        """Link nothing: the manifest need not exist."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""
