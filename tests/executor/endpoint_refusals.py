"""Rows of `endpoint_behaviours`: requests that an endpoint refuses."""
# ruff: noqa: E501 - a table in code: one row, one line
# fmt: off

from __future__ import annotations

import json

from endpoint_behaviours import (
    ANSWER,
    FILTER,
    FIRST,
    MASKED,
    NOBODY,
    NOTHING,
    OWED,
    PASSES,
    STOP,
    TOO_LONG,
    USUAL,
    VALUE,
    Behaviour,
    flat,
    in_200,
    refuses,
)
from executor_cases import GOOD, HTML, http, says


def too_long() -> list[Behaviour]:
    rows: list[tuple[str, str, bytes]] = [
        ("context length (code)", "OpenAI", refuses(400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", code="context_length_exceeded")),
        ("string above max length", "OpenAI", refuses(400, "Invalid 'messages[1].content': string too long.", code="string_above_max_length")),
        ("max context, no code", "vLLM", flat(400, "This model's maximum context length is 4096 tokens. However, you requested 4472 tokens (376 in the messages, 4096 in the completion).", code=400)),
        ("negative max_tokens", "vLLM", flat(400, "max_tokens must be at least 1, got -186.", type="BadRequestError", code=400)),
        ("negative max_tokens, parameter", "vLLM", refuses(400, "max_tokens must be at least 1, got -7584. (parameter=max_tokens, value=-7584)", type="BadRequestError")),
        ("decoder prompt too long", "vLLM", refuses(400, "The decoder prompt (length 10127) is longer than the maximum model length of 8192.", type="BadRequestError", code=400)),
        ("input length exceeds", "vLLM", refuses(400, "Input length (11680) exceeds model's maximum context length (4096).", code=400)),
        ("input longer than context", "SGLang", flat(400, "The input (61709 tokens) is longer than the model's context length (40960 tokens).", type="BadRequestError", code=400)),
        ("requested tokens exceed", "SGLang", flat(400, "Requested token count exceeds the model's maximum context length of 4096 tokens.", code=400)),
        ("input exceeds allowed length", "SGLang", flat(400, "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).", code=400)),
        ("exceed_context_size_error", "llama.cpp", refuses(400, "the request exceeds the available context size, try increasing it", type="exceed_context_size_error", n_ctx=256)),
        ("context size as a 500", "llama.cpp", refuses(500, "Context size has been exceeded.", type="server_error")),
        ("context error inside a 200", "llama.cpp", in_200({"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"})),
        ("exceed context window", "llama-cpp-python", refuses(500, "Requested tokens (2285) exceed context window of 2048")),
        ("prompt is too long", "Anthropic", http(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 203456 tokens > 200000 maximum"}})),
        ("exceed context limit", "Anthropic", http(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or `max_tokens` and try again"}})),
        ("inputs + max_new_tokens", "TGI", http(422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000 `inputs` tokens and 1024 `max_new_tokens`", "error_type": "validation"})),
        ("inputs less than", "TGI", http(422, {"error": "Input validation error: `inputs` must have less than 2048 tokens. Given: 2222", "error_type": "validation"})),
        ("input token count, in a list", "Gemini", http(400, json.dumps([{"error": {"code": 400, "message": "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).", "status": "INVALID_ARGUMENT"}}]).encode())),
        ("range of input length", "DashScope", refuses(400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]", code="invalid_parameter_error")),
        ("input exceeds maximum length", "Volcano Ark", refuses(400, "Input length 203743 exceeds the maximum length 202752", code="InvalidParameter")),
        ("ContextWindowExceededError", "litellm", refuses(400, "litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException", code="400")),
        ("too large for tokens per minute", "Groq", refuses(413, "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 14810, please reduce your message size", code="rate_limit_exceeded")),
        ("reduce the length", "Groq", refuses(400, "Please reduce the length of the messages or completion.", code="context_length_exceeded")),
        ("request entity too large", "nginx", http(413, b"<html><head><title>413 Request Entity Too Large</title></head></html>", "text/html")),
        ("too large, no words", "a proxy", http(413, b"", "text/plain")),
        ("too many tokens", "Cohere", http(400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 128000"})),
        ("prompt too long", "Mistral", flat(400, "Prompt contains 40000 tokens, too large for model with 32768 maximum context length", type="invalid_request_error")),
        ("maximum prompt length", "xAI", http(400, {"code": "400", "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."})),
        ("input is too long", "Bedrock", refuses(400, "Input is too long for requested model.", type="ValidationException")),
        ("keep the first tokens", "LM Studio", http(400, {"error": "Trying to keep the first 5000 tokens when context overflows. However, the model is loaded with context length of only 4096 tokens"})),
        ("in Chinese", "gateways", refuses(400, "输入长度超过最大长度")),
        ("length of prompt_tokens", "SiliconFlow", http(400, {"code": 20015, "message": "length of prompt_tokens (40000) must be less than max_seq_len (32768).", "data": None})),
        ("half in Chinese", "Zhipu", refuses(400, "Prompt 超长", code="1261")),
        ("too large for tokens per min, as a 429", "OpenAI", refuses(429, "Request too large for gpt-4o in organization org-abc on tokens per min (TPM): Limit 30000, Requested 45000. The input or output tokens must be reduced in order to run successfully. Visit https://platform.openai.com/account/rate-limits to learn more.", type="tokens", code="rate_limit_exceeded")),
        ("more than the whole limit, as a 429", "gateways", refuses(429, "Rate limit reached on tokens per min. Limit: 30,000, Used: 0, Requested: 30,001.")),
        ("detail as a list", "FastAPI", http(422, {"detail": [{"type": "value_error", "msg": "prompt is too long: 9000 tokens"}]})),
    ]
    made = [Behaviour(name=n, seen_at=s, answers=[a], outcome=VALUE, why=TOO_LONG) for n, s, a in rows]
    early = Behaviour(name="context length as the very first answer", seen_at="vLLM", answers=[rows[2][2]], outcome=VALUE, why=TOO_LONG, first=True)
    return [*made, early]


def filtered() -> list[Behaviour]:
    rows: list[tuple[str, str, bytes]] = [
        ("content_filter with innererror", "Azure", refuses(400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"})),
        ("content policy violation", "OpenAI", refuses(400, "Your request was rejected as a result of our safety system.", code="content_policy_violation")),
        ("prompt flagged", "OpenAI", refuses(400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt")),
        ("moderation 403", "OpenRouter", refuses(403, "Input was flagged", code=403, metadata={"reasons": ["violence"], "flagged_input": "..."})),
        ("data_inspection_failed", "DashScope", refuses(400, "Input data may contain inappropriate content.", code="data_inspection_failed")),
        ("data inspection as a 500", "DashScope", refuses(500, "<400> InternalError.Algo.DataInspectionFailed: Output data may contain inappropriate content.")),
        ("content exists risk", "DeepSeek", refuses(400, "Content Exists Risk", type="invalid_request_error", code="invalid_request_error")),
        ("ContentPolicyViolationError", "litellm", refuses(400, "litellm.ContentPolicyViolationError: AzureException", code="400")),
        ("sensitive content", "Zhipu", refuses(400, "The input or generated content may contain sensitive content", code="1301")),
        ("usage guidelines 403", "xAI", http(403, {"code": "Forbidden", "error": "Content violates usage guidelines."})),
        ("in Chinese", "gateways", refuses(400, "您的输入包含敏感内容")),
        ("censorship_blocked", "StepFun", refuses(451, "The content you provided or machine outputted is blocked.", type="censorship_blocked")),
        ("new_sensitive", "MiniMax", refuses(422, "input new_sensitive (1026)", type="invalid_request_error")),
        ("content that is not safe", "Baidu", refuses(400, "the content of message is not safe", code="content_illegal")),
        ("words that end in half an emoji", "gateways in JavaScript", refuses(400, "Input was flagged by moderation: \ud83d")),
        ("prohibited content", "Gemini", refuses(400, "Request blocked: PROHIBITED_CONTENT", status="INVALID_ARGUMENT")),
    ]
    made = [Behaviour(name=n, seen_at=s, answers=[a], outcome=VALUE, why=FILTER) for n, s, a in rows]
    early = Behaviour(name="moderation as the very first answer", seen_at="OpenRouter", answers=[rows[3][2]], outcome=VALUE, why=FILTER, first=True)
    inside = [
        Behaviour(
            name=f"finish_reason {reason}",
            seen_at=at,
            answers=[says("bad words", reason)],
            outcome=VALUE,
            tokens=USUAL,
            why=FILTER,
        )
        for reason, at in [("content_filter", "OpenAI"), ("SAFETY", "Gemini"), ("sensitive", "Zhipu")]
    ]
    tokens = {"prompt_tokens": 7, "completion_tokens": 3}
    blocked = {"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}
    inside += [
        Behaviour(name=f"finish_reason content_filter: PROHIBITED_CONTENT, {name}", seen_at="Gemini", answers=[http(200, {"choices": [blocked | more], "usage": tokens})], outcome=VALUE, tokens=USUAL, why=FILTER)
        for name, more in [("no message", {}), ("a message of null", {"message": None}), ("a message without content", {"message": {"role": "assistant"}})]
    ]
    for name, words in (("message.refusal", "I cannot help with that"), ("message.refusal that ends in half an emoji", "I cannot \ud83d")):
        inside.append(Behaviour(name=name, seen_at="OpenAI", answers=[says(None, refusal=words)], outcome=VALUE, tokens=USUAL, why=FILTER))
    return [*made, early, *inside]


def other_4xx() -> list[Behaviour]:
    unknown = [
        (400, "Something about this request is odd"),
        (403, "Forbidden"),
        (404, "The model `x` does not exist"),
        (405, "Method Not Allowed"),
        (410, "Gone"),
        (422, "Unprocessable Entity"),
        (451, "Unavailable For Legal Reasons"),
    ]
    later = [
        Behaviour(
            name=f"HTTP {code} later on",
            seen_at="gateways",
            answers=[refuses(code, words)],
            outcome=MASKED,
            says=words,
            why=NOBODY,
        )
        for code, words in unknown
    ]
    quoted = [{"type": "value_error", "msg": "odd", "input": {"content": "Your API key is invalid; insufficient balance"}}]
    later.append(Behaviour(name="a 422 that quotes the prompt", seen_at="FastAPI", answers=[http(422, {"detail": quoted})], outcome=MASKED, says="odd", why="a prompt about keys and balances must not end the run"))
    passing = [
        Behaviour(
            name=f"HTTP {code}, then an answer",
            seen_at=at,
            answers=[refuses(code, words), GOOD],
            outcome=ANSWER,
            tokens=OWED if code in (408, 499) else USUAL,
            why=PASSES,
        )
        for code, words, at in [
            (400, "We could not parse the JSON body of your request.", "OpenAI"),
            (408, "Request Timeout", "gateways"),
            (409, "Conflict", "OpenAI"),
            (424, "Request failed during generation", "TGI"),
            (498, "Flex tier capacity exceeded", "Groq"),
            (499, "Client closed request", "nginx"),
        ]
    ]
    stops = [
        ("the key is refused at first", 401, "Incorrect API key provided: sk-***", True, "the key, with the server's words"),
        ("the key is refused later on", 401, "Your authentication token has expired", False, "the key, with the server's words"),
        ("403 at first", 403, "Country, region, or territory not supported", True, FIRST),
        ("403 that names the key", 403, "This API key has been disabled", False, "the key, with the server's words"),
        ("402", 402, "Insufficient Balance", False, "the account cannot pay"),
        ("insufficient_quota as a 429", 429, "You exceeded your current quota, please check your plan", False, "the account cannot pay"),
        ("credit balance as a 400", 400, "Your credit balance is too low to access the API", False, "the account cannot pay"),
        ("arrearage", 400, "Access denied, please make sure your account is in good standing. Arrearage", False, "the account cannot pay"),
        ("an invalid key as a 400", 400, "API key not valid. Please pass a valid API key.", False, "the key, with the server's words"),
        ("a disabled organization", 400, "This organization has been disabled.", False, "the key, with the server's words"),
        ("arrears as a 429", 429, "Your account is in arrears. Please recharge.", False, "the account cannot pay"),
        ("balance as a 403", 403, "Sorry, your account balance is insufficient", False, "the account cannot pay"),
        ("a used up free tier", 403, "The free tier of the model has been exhausted.", False, "the account cannot pay"),
        ("key limit as a 403", 403, "Key limit exceeded (total limit)", False, "the account cannot pay"),
        ("spending limit as a 429", 429, "Your team 16f2151a-40f4-4a80-8ad0-cae00c27e8dd has either used all available credits or reached its monthly spending limit.", False, "the account cannot pay"),
        ("no credits as a 403", 403, "Your newly created team doesn't have any credits or licenses yet.", False, "the account cannot pay"),
        ("the account's own limit as a 400", 400, "You have reached your specified API usage limits. You will regain access on 2026-10-01 at 00:00 UTC.", False, "the account cannot pay"),
        ("the workspace's own limit as a 400", 400, "You have reached your specified workspace API usage limits. You will regain access on 2026-10-01 at 00:00 UTC.", False, "the account cannot pay"),
        ("depleted credits as a 429", 429, "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your project and billing.", False, "the account cannot pay"),
        ("spending cap as a 429", 429, "Your project has exceeded its monthly spending cap.", False, "the account cannot pay"),
        ("spend limit as a 400", 400, "Your organization has hit its spend limit", False, "the account cannot pay"),
        ("blocked_api_access as a 403", 403, "API access is blocked for this organization", False, "the account cannot pay"),
        ("credit limit as a 429", 429, "Credit limit exceeded, please navigate to https://api.together.xyz/settings/billing", False, "the account cannot pay"),
        ("a suspended account as a 429", 429, "Your account org-1234567890abcdef1234567890abcdef <ak-f1abcdefghijklmnopqrst> is suspended, please check your plan", False, "the account cannot pay"),
        ("a trial's month as a 429", 429, "You are using a Trial key, which is limited to 1000 API calls / month.", False, "the account cannot pay"),
        ("unknown model at first", 404, "The model `gpt-9` does not exist", True, FIRST),
        ("unknown model as a 400 at first", 400, "Model Not Exist", True, FIRST),
        ("unsupported parameter at first", 400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", True, FIRST),
        ("max_tokens above the model's at first", 400, "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.", True, FIRST),
        ("422 at first", 422, "Extra inputs are not permitted", True, FIRST),
    ]
    codes = {
        "insufficient_quota as a 429": "insufficient_quota",
        "blocked_api_access as a 403": "blocked_api_access",
        "a suspended account as a 429": "exceeded_current_quota_error",
    }
    ends = [
        Behaviour(
            name=name,
            seen_at="several",
            answers=[refuses(code, words, code=codes.get(name))],
            outcome=STOP,
            says=words[:30],
            why=why,
            first=first,
        )
        for name, code, words, first, why in stops
    ]
    tier = {"type": "rate_limit_error", "message": "Rate limited.", "details": {"error_code": "enforced_spend_limit_reached"}}
    ends.append(Behaviour(name="the tier's month as a 429", seen_at="Anthropic", answers=[http(429, {"type": "error", "error": tier})], outcome=STOP, says="Rate limited.", why="the account cannot pay"))
    page = Behaviour(name="a web page at first", seen_at="a wrong base_url", answers=[http(200, HTML, "text/html")], outcome=STOP, tokens=NOTHING, why=FIRST, first=True, says="web page")
    page_404 = Behaviour(name="a web page with 404 at first", seen_at="a wrong base_url", answers=[http(404, HTML, "text/html")], outcome=STOP, why=FIRST, first=True, says="HTML page")
    return [*later, *passing, *ends, page, page_404]
