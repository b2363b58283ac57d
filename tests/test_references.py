"""References: published accuracies that stand beside a study's."""

import pytest
from made_study import config_of

from apprentice_jax import config as configs
from apprentice_jax.config import references
from apprentice_jax.errors import ConfigError


@pytest.mark.parametrize(
  "text, sentence",
  [
    ("resnet20|8A,2W|91.1", "write NETWORK|PRECISION|ACCURACY|SOURCE"),
    ("resnet20|8A,2W|good|me", "write NETWORK|"),
    ("resnet20|8A,2W|91.1|", "write NETWORK|"),
    ("resnet20|8A,2W|910|me", "is between 0 and 100."),
    (
      "resnet20|2W|91|me",
      "config.study.references has 'resnet20|2W|91|me': precision '2W' is not one",
    ),
  ],
)
def test_wrong_references_are_refused_in_one_sentence(text, sentence):
  with pytest.raises(ConfigError) as error:
    configs.validate(config_of(references=(text,)))
  assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_reference_by_hand():
  assert references.parse(" resnet8 at width 0.25 |8a2w|91.13| TTQ, a|b ") == (
    "resnet8 at width 0.25",
    "8A,2W",
    91.13,
    "TTQ, a|b",
  )
