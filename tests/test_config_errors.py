import pytest
from checking_cli import CheckingCLI
from tiny_set import make

from synthrad import cli
from synthrad.__main__ import main
from synthrad.errors import InputError

BARE = ["fit", "--model=SegmentationTask", "--model.net=SmpNet", "--data=FusionDataModule", "--data.manifest=x"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.fusion=Matchd"], "did you mean Matched"),
        (["--data.fusion=Matched", "--data.fusion.ratioo=2"], "did you mean ratio"),
        (["--trainer.max_stepss=3"], "did you mean trainer.max_steps"),
        (["--trainer.max_steps=abc"], "type int"),
        (["--model=SegmentatoinTask"], "did you mean SegmentationTask"),
        (["--model.net=os.system"], "outside the known packages"),
        (["--config=missing.yaml"], "no file"),
    ],
)
def test_mistakes_get_one_clear_line(flags, said):
    with pytest.raises(InputError, match=said) as e:
        cli.parse([*BARE, *flags], CheckingCLI)
    assert len(str(e.value).splitlines()) <= 2


@pytest.mark.parametrize(("flag", "said"), [("masks=draws", "one of draw, given.\n.*did you mean draw"),
                                            ("r1_gamma=much", "a number or one of auto")])
def test_a_choice_names_its_values(flag, said):
    with pytest.raises(InputError, match=said):
        cli.parse(["fit", "--model=StyleGAN2", f"--model.{flag}", "--data=GenerationDataModule", "--data.manifest=x",
                   "--data.size=[16,16]"], CheckingCLI)


def test_what_a_net_refuses_is_said_without_the_parsers_pages(tmp_path, capsys):
    make(tmp_path / "real")
    assert main(["fit", "--model=SegmentationTask", "--model.net=SamNet", "--model.net.weights=nobody/nothing", "--data=FusionDataModule",
                 f"--data.manifest={tmp_path / 'real'}", "--data.size=[32,32]", f"--trainer.default_root_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "model.net.weights: found hub id 'nobody/nothing'" in said and "licence" in said and "hf download nobody/nothing" in said
    assert "Traceback" not in said and "Union" not in said and len(said.strip().splitlines()) <= 3
