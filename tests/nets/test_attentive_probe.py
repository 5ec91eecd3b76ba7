import torch

from synthrad.nets.attentive_probe import AttentiveProbe


def test_it_reads_any_number_of_tokens_in_any_order():
    torch.manual_seed(0)
    probe, tokens = AttentiveProbe(24, 3).eval(), torch.randn(2, 7, 24)
    logits = probe(tokens)
    assert logits.shape == (2, 3)
    assert torch.allclose(probe(tokens[:, torch.randperm(7)]), logits, atol=1e-5)
    assert not torch.allclose(probe(tokens[:, :5]), logits, atol=1e-3)


def test_it_learns_what_the_mean_of_tokens_cannot_tell():
    """One token of eight bears the label, in a direction that the others lack, and their noise drowns it in the mean."""
    torch.manual_seed(0)
    probe = AttentiveProbe(16, 1, heads=2)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3)

    def draw(n):
        tokens, label = torch.randn(n, 8, 16), torch.randint(0, 2, (n, 1)).float()
        tokens[:, :, 0] = 0
        place = torch.randint(0, 8, (n,))
        tokens[torch.arange(n), place, 0] = 6.0
        tokens[torch.arange(n), place, 1] = 2 * label[:, 0] - 1
        return tokens, label

    for _ in range(150):
        tokens, label = draw(64)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(probe(tokens), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tokens, label = draw(500)
    assert ((probe(tokens) > 0) == (label > 0.5)).float().mean() > 0.9
