"""Claims as format strings with `{file}`, the path of the experiment, for the fixture `write_claims`."""

VALUE = "{{source: table-1, says: So., experiment: {file}, arms: [{arm}], measure: test perplexity, "
ORDER = "{{source: table-2, says: So., experiment: {file}, arms: [{arms}], measure: {measure}, "


def value(published, tolerance, arm="untied"):
    return VALUE.replace("{arm}", arm) + f"published: {published}, tolerance: {tolerance}}}}}"


def order(relation, measure="test perplexity", arms="untied, tied"):
    return ORDER.replace("{measure}", measure).replace("{arms}", arms) + f"relation: {relation}}}}}"


def difference(published, rest="", text="tied - untied"):
    claim = ORDER.replace("{measure}", "test perplexity").replace("{arms}", "untied, tied")
    return claim + f"difference: {text}, published: {published}{rest}}}}}"
