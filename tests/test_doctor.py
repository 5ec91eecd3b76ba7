from synthrad import doctor


def test_doctor_prints_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert doctor.run([]) == 0
    out = capsys.readouterr().out
    assert "torch" in out and "CPU:" in out and "optional" in out
    assert not list(tmp_path.iterdir())
