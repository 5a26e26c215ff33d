"""verbose sets how much of training is printed: nothing, a bar, or a line for each epoch."""

import pytest


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("n_rows", [120, 1100])
def test_verbose(verbose, n_rows, case, digits, capsys):
    model = case.make(verbose=verbose, max_epochs=2).fit(digits[:n_rows, 20:40])
    model.reconstruct(digits[:n_rows, 20:40])
    captured = capsys.readouterr()
    if verbose == 0:
        assert captured.out == captured.err == ""
        return
    printed = captured.out + captured.err
    assert "loss" in printed
    if verbose == 2:
        assert printed.count("epoch") >= 2
        assert printed.count("\n") >= 2


@pytest.mark.parametrize("verbose", [1, 2])
@pytest.mark.parametrize(
    ("case", "n_rows", "n_epochs"),
    [
        ("transformer", 120, 4),  # of the folds, and of all rows
        ("transformer", 1100, 4),
        ("denoiser", 120, 4),
        ("denoiser", 1100, 2),
        ("generator", 120, 2),
        ("generator", 1100, 2),
        ("detector", 120, 4),  # two refits of an epoch each come first
        ("detector", 1100, 4),
    ],
    indirect=["case"],
)
def test_the_number_of_epochs_is_shown(n_rows, n_epochs, verbose, case, digits, judged, capsys):
    case.make(verbose=verbose, max_epochs=2).fit(digits[:n_rows, 20:40])
    captured = capsys.readouterr()
    assert f"{n_epochs}/{n_epochs}" in captured.out + captured.err
