package openai

import "strings"

// flavour is what differs between servers.
type flavour struct {
	name string
	// owner is what /v1/models says in owned_by.
	owner string
	// Names of gauges: running and waiting requests, memory in use (0 to 1), and of the counter of preemptions. Several
	// names are of several versions; the first that is there counts.
	running, waiting, memory, preempted []string
	// total are gauges of the whole key-value memory in tokens.
	total []string
	// tokenize: /tokenize takes {"model","prompt"} or {"model","messages"} and answers {"count"}.
	tokenize bool
	// isolate adds to a request's body what keeps tenants' prefixes apart.
	isolate func(body map[string]any, salt string)
}

// flavours by name.
var flavours = []flavour{
	{
		name: "cocoon", owner: "cocoon", tokenize: true,
		running: []string{"cocoon:num_requests_running"}, waiting: []string{"cocoon:num_requests_waiting"},
		memory: []string{"cocoon:kv_cache_usage_perc"}, preempted: []string{"cocoon:num_preemptions_total"},
		total: []string{"cocoon:kv_cache_tokens"},
	},
	{
		name: "vllm", owner: "vllm", tokenize: true,
		running: []string{"vllm:num_requests_running"}, waiting: []string{"vllm:num_requests_waiting"},
		memory:    []string{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"},
		preempted: []string{"vllm:num_preemptions_total"},
		isolate:   func(body map[string]any, salt string) { body["cache_salt"] = salt },
	},
	{
		name: "sglang", owner: "sglang",
		running: []string{"sglang:num_running_reqs"}, waiting: []string{"sglang:num_queue_reqs"},
		memory: []string{"sglang:token_usage"}, preempted: []string{"sglang:num_retracted_reqs"},
		total: []string{"sglang:max_total_num_tokens"},
	},
	{
		name: "llama-server", owner: "llamacpp",
		running: []string{"llamacpp:requests_processing"}, waiting: []string{"llamacpp:requests_deferred"},
		isolate: func(body map[string]any, _ string) { body["cache_prompt"] = false },
	},
	{
		name: "tgi", owner: "tgi",
		running: []string{"tgi_batch_current_size"}, waiting: []string{"tgi_queue_size"},
	},
	{name: "openai"},
}

// flavourNamed finds a flavour, the last one ("anything else") if the name is unknown.
func flavourNamed(name string) flavour {
	for _, f := range flavours {
		if f.name == name {
			return f
		}
	}
	return flavours[len(flavours)-1]
}

// flavourOwned finds a flavour by owned_by.
func flavourOwned(owner string) flavour {
	for _, f := range flavours {
		if f.owner != "" && strings.EqualFold(f.owner, owner) {
			return f
		}
	}
	return flavours[len(flavours)-1]
}
