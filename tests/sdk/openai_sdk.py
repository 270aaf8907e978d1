"""OpenAI's own Python package against a running daybreak.

bash tests/sdk/run.sh starts the server and runs this; BASE_URL and API_KEY say where it is.
"""

import json
import os
import unittest

import openai

client = openai.OpenAI(base_url=os.environ["BASE_URL"] + "/v1", api_key=os.environ["API_KEY"], max_retries=0)
MODEL = os.environ.get("MODEL", "smollm2:135m")
ASK = [{"role": "user", "content": "Name three colours of the rainbow."}]


class Sdk(unittest.TestCase):
    def test_models_are_listed_and_found(self):
        names = [model.id for model in client.models.list()]
        self.assertIn(MODEL, names)
        self.assertEqual(client.models.retrieve(MODEL).id, MODEL)
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("no-such-model")

    def test_a_stream_joins_to_the_answer_in_one_piece(self):
        whole = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0, max_tokens=30)
        text, usage = "", None
        for chunk in client.chat.completions.create(
            model=MODEL, messages=ASK, temperature=0, max_tokens=30, stream=True, stream_options={"include_usage": True}
        ):
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
            usage = chunk.usage or usage
        self.assertTrue(text)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertIsNotNone(whole.usage.prompt_tokens_details.cached_tokens)

    def test_seeds_repeat_and_n_answers_differ(self):
        def ask(**more):
            return client.chat.completions.create(
                model=MODEL, messages=ASK, temperature=1.2, max_tokens=20, seed=11, **more
            )

        self.assertEqual(ask().choices[0].message.content, ask().choices[0].message.content)
        both = ask(n=2).choices
        self.assertEqual(len(both), 2)
        self.assertNotEqual(both[0].message.content, both[1].message.content)

    def test_log_probabilities(self):
        answer = client.chat.completions.create(
            model=MODEL, messages=ASK, temperature=0, max_tokens=5, logprobs=True, top_logprobs=4
        )
        for token in answer.choices[0].logprobs.content:
            self.assertEqual(len(token.top_logprobs), 4)
            self.assertEqual(token.token, token.top_logprobs[0].token)
        raw = client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=5, logprobs=3)
        self.assertEqual(len(raw.choices[0].logprobs.tokens), len(raw.choices[0].logprobs.token_logprobs))

    def test_raw_completions_take_lists_and_stops(self):
        answer = client.completions.create(
            model=MODEL, prompt=["One, two, three,", "The sky is"], max_tokens=8, temperature=0, stop=[","]
        )
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        self.assertTrue(all("," not in choice.text for choice in answer.choices))
        chunks = client.completions.create(model=MODEL, prompt="Once", max_tokens=4, stream=True)
        self.assertTrue("".join(chunk.choices[0].text for chunk in chunks))

    def test_answers_have_the_form_they_were_asked_for(self):
        schema = {
            "type": "object",
            "properties": {
                "colours": {"type": "array", "items": {"enum": ["red", "green", "蓝"]}, "minItems": 1, "maxItems": 3},
                "n": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["colours", "n"],
            "additionalProperties": False,
        }
        strict = {"type": "json_schema", "json_schema": {"name": "rainbow", "strict": True, "schema": schema}}

        def ask(temperature, **more):
            return client.chat.completions.create(
                model=MODEL, messages=ASK, temperature=temperature, seed=3, max_tokens=200, **more
            )

        for temperature in (0, 1, 2):
            choice = ask(temperature, response_format=strict).choices[0]
            self.assertEqual(choice.finish_reason, "stop")
            answer = json.loads(choice.message.content)
            self.assertEqual(list(answer), ["colours", "n"])
            self.assertTrue(1 <= len(answer["colours"]) <= 3 and 1 <= answer["n"] <= 7)
            streamed = ask(temperature, response_format=strict, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
            self.assertEqual(text, choice.message.content)
            chosen = ask(temperature, extra_body={"structured_outputs": {"choice": ["yes", "no"]}})
            self.assertIn(chosen.choices[0].message.content, ["yes", "no"])
        free = ask(0, response_format={"type": "json_object"}).choices[0]
        self.assertTrue(free.message.content.startswith("{"))
        if free.finish_reason == "stop":
            self.assertIsInstance(json.loads(free.message.content), dict)
        schema["properties"]["n"]["not"] = {"const": 3}
        with self.assertRaises(openai.BadRequestError) as caught:
            ask(0, response_format=strict)
        self.assertIn("#/properties/n/not", str(caught.exception))

    def test_errors_are_the_packages_own(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=ASK, temperature=9)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 40000}])
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="no-such-model", messages=ASK)
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=str(client.base_url), api_key="wrong", max_retries=0).models.list()


if __name__ == "__main__":
    unittest.main(verbosity=2)
