"""Rows of `endpoint_behaviours` in the words of single providers and gateways: money, filters, lengths, usage, parameters."""
# ruff: noqa: E501 - a table in code: one row, one line
# fmt: off

from __future__ import annotations

import json
from typing import Any

from endpoint_behaviours import (
    ANSWER,
    BODY_OF_GOOD,
    ESTIMATE,
    FILTER,
    FIRST,
    MASKED,
    OWED,
    PASSES,
    READABLE,
    SAYS_LITTLE,
    STOP,
    TOO_LONG,
    USUAL,
    VALUE,
    WAITED,
    Behaviour,
    delta,
    refuses,
    streamed,
    usage,
)
from executor_cases import GOOD, http, says

NO_MONEY = "the account cannot pay"


def numbered_in_200() -> list[Behaviour]:
    """MiniMax: `base_resp` beside no choices. https://platform.minimax.io/docs/api-reference/errorcode"""
    def state(code: int, words: str) -> bytes:
        return http(200, {"id": "0", "choices": None, "base_resp": {"status_code": code, "status_msg": words}})

    waited = [(1002, "rate limit"), (1039, "token limit"), (1041, "conn limit"), (2045, "rate growth limit"), (2056, "usage limit exceeded")]
    passing = [(1000, "unknown error"), (1001, "request timeout"), (1024, "internal error"), (1033, "system error")]
    declined = [(1026, "input new_sensitive"), (1027, "output new_sensitive"), (1042, "invisible character ratio limit")]
    stops = [(1004, "login fail: Please carry the API secret key in the 'Authorization' field", "the key, with the server's words"), (1008, "insufficient balance", NO_MONEY), (2049, "invalid api key", "the key, with the server's words")]
    fine = http(200, json.dumps(json.loads(BODY_OF_GOOD) | {"base_resp": {"status_code": 0, "status_msg": ""}}).encode())
    return [
        *[Behaviour(name=f"base_resp {c} inside a 200, six times", seen_at="MiniMax", answers=[*[state(c, w)] * 6, GOOD], outcome=ANSWER, tokens=USUAL, why=WAITED) for c, w in waited],
        *[Behaviour(name=f"base_resp {c} inside a 200", seen_at="MiniMax", answers=[state(c, w)], outcome=MASKED, says=w, why=PASSES) for c, w in passing],
        *[Behaviour(name=f"base_resp {c} inside a 200", seen_at="MiniMax", answers=[state(c, w)], outcome=VALUE, says=w, why=FILTER) for c, w in declined],
        *[Behaviour(name=f"base_resp {c} inside a 200", seen_at="MiniMax", answers=[state(c, w)], outcome=STOP, says=w[:20], why=why) for c, w, why in stops],
        Behaviour(name="base_resp 2013 inside a 200, at first", seen_at="MiniMax", answers=[state(2013, "invalid params")], outcome=STOP, says="invalid params", why=FIRST, first=True),
        Behaviour(name="base_resp 0 beside an answer", seen_at="MiniMax", answers=[fine], outcome=ANSWER, tokens=USUAL, text="fine", why=READABLE),
        Behaviour(name="1008 as a 500", seen_at="MiniMax", answers=[http(500, {"type": "error", "error": {"type": "api_error", "message": "insufficient balance (1008)"}})], outcome=STOP, says="insufficient balance", why=NO_MONEY),
    ]


def no_money() -> list[Behaviour]:
    """An account, a plan or a budget that is used up and does not come back by waiting."""
    rows: list[tuple[str, str, bytes]] = [
        ("its budget as a 400", "litellm", refuses(400, "Budget has been exceeded! Current cost: 26.075, Max budget: 0.25", type="budget_exceeded", code="400")),
        ("a user's budget as a 429", "litellm", refuses(429, "ExceededBudget: End User=ishaan3 over budget. Spend=0.0008869, Budget=0.0001", code="429")),
        ("a model's budget as a 429", "litellm", refuses(429, "LiteLLM User: engineer-1, exceeded budget for model=claude-opus", type="budget_exceeded", code="429")),
        ("a deployment's budget as a 429", "litellm", refuses(429, "No deployments available - crossed budget: Exceeded budget for deployment model_name: xxx", code="429")),
        ("the day's free allocation as a 429", "Cloudflare Workers AI", http(429, {"success": False, "result": {}, "messages": [], "errors": [{"code": 4006, "message": "AiError: AiError: you have used up your daily free allocation of 10,000 neurons, please upgrade to Cloudflare's Workers Paid plan if you would like to continue usage."}]})),
        ("the week's and month's limit as a 429", "Zhipu", refuses(429, "Weekly/Monthly Limit Exhausted. Your limit will reset at 2026-03-06 22:19:54", code="1310")),
        ("the week's limit as a 429", "Ollama", http(429, {"error": "you (x) have reached your weekly usage limit, upgrade for higher limits: https://ollama.com/upgrade"})),
        ("the billing cycle's limit as a 403", "Kimi", refuses(403, "You've reached your usage limit for this billing cycle. Your quota will be refreshed in the next cycle.", type="access_terminated_error")),
        ("a locked account as a 429", "Zhipu", refuses(429, "Your account has been locked, please contact customer service to unlock", code="1112")),
        ("a prepaid bill overdue as a 429", "DashScope", refuses(429, "The prepaid bill is overdue.", code="PrepaidBillOverdue")),
        ("a model not purchased as a 429", "DashScope", refuses(429, "Commodity has not purchased yet.", code="CommodityNotPurchased")),
        ("the limit one has set oneself as a 429", "Volcano Ark", refuses(429, "Your account [1] has reached the set inference limit for the [x] model, and the model service has been paused.", code="SetLimitExceeded")),
        ("a free trial's quota as a 429", "Volcano Ark", refuses(429, "Your account [1] has exhausted its free trial quota for the model [x].", code="QuotaExceeded")),
        ("NOT_ENOUGH_BALANCE as a 403", "Novita", http(403, {"code": 403, "reason": "NOT_ENOUGH_BALANCE", "message": "not enough balance", "metadata": {}})),
        ("insufficient_user_quota as a 403", "new-api, one-api", refuses(403, "user quota is not enough (request id: 1)", type="new_api_error", code="insufficient_user_quota")),
        ("its own words as a 403", "new-api, one-api", refuses(403, "用户额度不足, 剩余额度: ＄-0.004 (request id: 1)", type="new_api_error")),
        ("a token's quota as a 401", "new-api, one-api", refuses(401, "该令牌额度已用尽 (request id: 1)", type="one_api_error")),
        ("billing disabled as a 403", "Vertex", http(403, json.dumps([{"error": {"code": 403, "message": "This API method requires billing to be enabled.", "status": "PERMISSION_DENIED", "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BILLING_DISABLED"}]}}]).encode())),
        ("an account not in good standing as a 412", "Fireworks", refuses(412, "Account x is not in good standing", code="PRECONDITION_FAILED")),
    ]
    stops = [Behaviour(name=n, seen_at=s, answers=[a], outcome=STOP, why=NO_MONEY) for n, s, a in rows]
    thinking = refuses(400, "The thinking_budget parameter must be a positive integer and not greater than 38912", code="invalid_parameter_error")
    token = http(403, {"message": "The security token included in the request is expired"})
    return [
        *stops,
        Behaviour(name="a thinking budget is no money", seen_at="DashScope", answers=[thinking], outcome=MASKED, says="thinking_budget", why="the settings have worked, so it may be anybody's: masked and counted"),
        Behaviour(name="an expired security token as a 403", seen_at="Bedrock", answers=[token], outcome=STOP, says="security token", why="the key, with the server's words"),
    ]


def not_this_prompt() -> list[Behaviour]:
    """A prompt that does not fit, or that a filter declines."""
    long: list[tuple[str, str, bytes]] = [
        ("input token count, only supports", "Vertex", http(400, json.dumps([{"error": {"code": 400, "message": "Unable to submit request because the input token count is 1251952 but model only supports up to 1048576. Reduce the input token count and try again.", "status": "INVALID_ARGUMENT"}}]).encode())),
        ("requested generation length", "SambaNova", refuses(400, "Requested generation length 1 is not possible! The provided prompt is 4309 tokens long, so generating 1 tokens requires a sequence length of 4310, but the maximum supported sequence length is just 4096!", type="invalid_request_error")),
        ("n_keep beyond n_ctx", "LM Studio", http(400, {"error": "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)"})),
        ("max message tokens", "Volcano Ark", refuses(400, "Total tokens of image and text exceed max message tokens.", code="InvalidParameter")),
        ("token length too long", "Kimi", refuses(400, "Input token length too long", type="invalid_request_error")),
        ("model token limit", "Kimi", refuses(400, "Your request exceeded model token limit : 131072", type="invalid_request_error")),
    ]
    declined: list[tuple[str, str, bytes]] = [
        ("guardrail 2016", "Cloudflare AI Gateway", http(424, {"success": False, "result": [], "messages": [], "error": [{"code": 2016, "message": "Prompt blocked due to security configurations"}]})),
        ("guardrail 2017", "Cloudflare AI Gateway", http(424, {"success": False, "result": [], "messages": [], "error": [{"code": 2017, "message": "Response blocked due to security configurations"}]})),
        ("SensitiveContentDetected", "Volcano Ark", refuses(400, "The request failed because the input text may contain severe violation information.", type="BadRequest", code="SensitiveContentDetected.SevereViolation")),
        ("considered high risk", "Kimi", refuses(400, "The request was rejected because it was considered high risk", type="content_filter")),
    ]
    part: Any = [{"type": "refusal", "refusal": "I cannot help with that"}]
    pieces = [delta({"role": "assistant", "content": None}), delta({"refusal": "I cannot "}), delta({"refusal": "help with that"}, "stop"), {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}]
    inside = [
        ("a refusal as a part of the content", "OpenAI", says(part)),
        ("a refusal in a stream", "OpenAI", streamed(*pieces)),
        ("finish_reason guardrail_intervened", "Bedrock", says("Blocked by your guardrail.", "guardrail_intervened")),
        ("finish_reason content_filtered", "Bedrock", says("", "content_filtered")),
    ]
    return [
        *[Behaviour(name=n, seen_at=s, answers=[a], outcome=VALUE, why=TOO_LONG) for n, s, a in long],
        *[Behaviour(name=n, seen_at=s, answers=[a], outcome=VALUE, why=FILTER) for n, s, a in declined],
        *[Behaviour(name=n, seen_at=s, answers=[a], outcome=VALUE, tokens=USUAL, why=FILTER) for n, s, a in inside],
    ]


def passing() -> list[Behaviour]:
    """Rates, lost models and answers that break off, in other words than a 429 or a 503."""
    busy = "An error occurred (ThrottlingException) when calling the Converse operation (reached max retries: 4): Too many requests, please wait before trying again."
    quota = http(403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 00:00:00."})
    far = http(403, {"statusCode": 403, "message": "Out of call volume quota. Quota will be replenished in 5.03:23:11."})
    crashed = http(400, {"error": "The model has crashed without additional information. (Exit code: 18446744072635812000)"})
    undone = http(200, {"message": {"role": "assistant", "content": "", "thinking": "Here's a thinking process"}, "done": False})
    stopped = http(200, {"message": {"role": "assistant", "content": "fine"}, "done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3})
    told = {"x_ratelimit_limit_requests": "10000", "x_ratelimit_remaining_requests": "9999", "x_ratelimit_reset_requests": "6ms"}
    failed = http(500, {"error": {"message": "The server had an error"}}, **told)
    broken_off = http(200, {"choices": [{"finish_reason": "error", "message": {"content": "half an ans"}}]}, **told)
    return [
        Behaviour(name="a 500 with the state of the rate windows, three times", seen_at="not seen", answers=[*[failed] * 3, GOOD], outcome=MASKED, says="server had an error", why=PASSES),
        Behaviour(name="half an answer with the state of the rate windows, three times", seen_at="not seen", answers=[*[broken_off] * 3, GOOD], outcome=MASKED, tokens=OWED, says="broke off", why=PASSES),
        Behaviour(name="throttling as a 500, six times", seen_at="Bedrock's gateway", answers=[*[http(500, {"detail": busy})] * 6, GOOD], outcome=ANSWER, tokens=USUAL, why=WAITED),
        Behaviour(name="a call quota as a 403, six times", seen_at="Azure API Management", answers=[*[quota] * 6, GOOD], outcome=ANSWER, tokens=USUAL, why=WAITED),
        Behaviour(name="a call quota for five days as a 403", seen_at="Azure API Management", answers=[far], outcome=MASKED, says="Out of call volume quota", why="longer than an outage is waited for"),
        Behaviour(name="a crashed model as a 400, then an answer", seen_at="LM Studio", answers=[crashed, GOOD], outcome=ANSWER, tokens=USUAL, text="fine", why=PASSES),
        Behaviour(name="its own form, not done", seen_at="Ollama", answers=[undone, stopped], outcome=ANSWER, tokens=OWED, text="fine", why=PASSES),
        Behaviour(name="thinking that took all of max_tokens, as a 400", seen_at="OpenAI, Azure", answers=[refuses(400, "Could not finish the message because max_tokens or model output limit was reached. Please try again with higher max_tokens.", type="invalid_request_error")], outcome=MASKED, tokens=OWED, why="an empty answer, which may be billed", first=True),
        *[
            Behaviour(name=f"no choices, but usage ({name})", seen_at=at, answers=[http(200, {"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}})], outcome=MASKED, tokens=(7, 0), says="no text", why=SAYS_LITTLE)
            for name, at, choices in [("an empty list", "litellm", []), ("null", "Gemini", None)]
        ],
    ]


def counted() -> list[Behaviour]:
    tokens = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    parts = {"input_tokens_cost": 0.000002, "output_tokens_cost": 0.000002, "request_cost": 0.005, "total_cost": 0.005004}
    costs: list[tuple[str, str, dict[str, Any], float]] = [
        ("usage.cost in parts", "Perplexity", tokens | {"cost": parts}, 0.005004),
        ("usage.estimated_cost", "DeepInfra", tokens | {"estimated_cost": 0.00012}, 0.00012),
        ("usage.cost_in_usd_ticks", "xAI", tokens | {"cost_in_usd_ticks": 37756000}, 0.0037756),
    ]
    reasoning = {"prompt_tokens": 7, "completion_tokens": 105, "total_tokens": 112, "completion_tokens_details": {"reasoning_tokens": 120}}
    ended = {"choices": [{"index": 0, "delta": {"content": "ne"}, "finish_reason": "stop", "usage": tokens}]}
    return [
        *[Behaviour(name=n, seen_at=s, answers=[usage(u)], outcome=ANSWER, usd=c, text="fine", why="the endpoint knows what it bills") for n, s, u, c in costs],
        Behaviour(name="total only", seen_at="MiniMax", answers=[usage({"total_tokens": 1027})], outcome=ANSWER, tokens=(27, 1000), text="fine", why=ESTIMATE),
        Behaviour(name="total only, below the estimate", seen_at="MiniMax", answers=[usage({"total_tokens": 10})], outcome=ANSWER, tokens=(10, 2), text="fine", why=ESTIMATE),
        Behaviour(name="reasoning estimated above completion, beside a total", seen_at="Bedrock's gateway", answers=[usage(reasoning)], outcome=ANSWER, tokens=(7, 105), text="fine", why="what is billed is booked"),
        Behaviour(name="usage in the choice of a stream", seen_at="Moonshot", answers=[streamed(delta({"role": "assistant", "content": "fi"}), ended)], outcome=ANSWER, tokens=USUAL, text="fine", why=READABLE),
    ]


def parameters() -> list[Behaviour]:
    """A parameter that the model does not take ends the run before it has begun, with the key to change."""
    extra = {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 1}]}
    rows: list[tuple[str, str, bytes, str]] = [
        ("max_completion_tokens asked for", "OpenAI", refuses(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", code="unsupported_parameter"), "set executor.max_tokens_field=max_completion_tokens"),
        ("temperature fixed at 1", "OpenAI", refuses(400, "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported.", code="unsupported_value"), "set executor.temperature"),
        ("temperature, only 1", "Kimi", refuses(400, "invalid temperature: only 1 is allowed for this model", type="invalid_request_error"), "set executor.temperature"),
        ("no seed", "Mistral", http(422, extra), "set executor.send_seed=false"),
        ("max_tokens above the range", "DashScope", refuses(400, "<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 8192]", code="invalid_parameter_error"), "set executor.max_tokens"),
    ]
    models: list[tuple[str, str, bytes]] = [
        ("invalid model name", "litellm", refuses(400, "/chat/completions: Invalid model name passed in model=gpt-9. Call `/v1/models` to view available models for your key.")),
        ("not a valid model ID", "OpenRouter", refuses(400, "gpt-9 is not a valid model ID", code=400)),
        ("no such model", "Cloudflare Workers AI", http(400, {"success": False, "errors": [{"code": 5007, "message": "AiError: No such model @cf/x or task"}]})),
        ("an unknown model in Chinese", "Zhipu", refuses(400, "模型不存在，请检查模型代码。", code="1211")),
    ]
    return [
        *[Behaviour(name=f"{n}, at first", seen_at=s, answers=[a], outcome=STOP, says=fix, why=FIRST, first=True) for n, s, a, fix in rows],
        *[Behaviour(name=f"{n}, at first", seen_at=s, answers=[a], outcome=STOP, says="set executor.model", why=FIRST, first=True) for n, s, a in models],
    ]
