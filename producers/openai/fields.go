package openai

import (
	"slices"
	"strings"
)

// common are the fields that every text endpoint has, or that engines which speak OpenAI's API share.
const common = "model n stop stream stream_options temperature top_p seed user frequency_penalty presence_penalty " +
	"logit_bias service_tier metadata store safety_identifier prompt_cache_key prompt_cache_retention cache_salt top_k min_p " +
	"repetition_penalty skip_special_tokens max_coefficient timeout enable_debug request_guid "

// fields lists, by endpoint, the fields of OpenAI's API and of ours. A field that is not here is passed on and recorded.
var fields = map[string][]string{
	PathChat: names(common + "messages max_tokens max_completion_tokens tools tool_choice parallel_tool_calls functions " +
		"function_call logprobs top_logprobs response_format reasoning_effort verbosity modalities audio prediction " +
		"web_search_options chat_template_kwargs moderation prompt_cache_options"),
	PathCompletions: names(common + "prompt max_tokens best_of echo suffix logprobs"),
	PathEmbeddings:  names(common + "input encoding_format dimensions"),
	PathResponses: names(common + "input instructions max_output_tokens max_tool_calls previous_response_id conversation " +
		"include reasoning text tools tool_choice parallel_tool_calls top_logprobs truncation background prompt"),
	PathSpeech:         names(common + "input voice instructions response_format speed stream_format"),
	PathTranscriptions: nil,
}

// names splits a list.
func names(list string) []string {
	out := strings.Fields(list)
	slices.Sort(out)
	return out
}

// unknown lists the names in an object that its endpoint does not have.
func unknown(url string, o Object) (out []string) {
	for _, m := range o {
		if _, known := slices.BinarySearch(fields[url], m.Name); !known && len(out) < maxUnknown {
			out = append(out, clip([]byte(m.Name)))
		}
	}
	return out
}

// Endpoints lists the paths that jobs can call.
func Endpoints() []string {
	return []string{PathChat, PathCompletions, PathEmbeddings, PathResponses, PathSpeech, PathTranscriptions}
}
