package openai

import (
	"bufio"
	"context"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/consumers"
)

// load is what the metrics say; consumers.Unknown where they do not.
type load struct {
	running, waiting  int
	memory, preempted float64
	total             int64
}

func unknownLoad() load {
	return load{consumers.Unknown, consumers.Unknown, consumers.Unknown, consumers.Unknown, consumers.Unknown}
}

// scrape reads the metrics of the server's flavour.
func (e *Engine) scrape(ctx context.Context) load {
	l := unknownLoad()
	model, f := e.name()
	if f.running == nil {
		return l
	}
	resp, err := e.client.do(ctx, "GET", "/metrics", "", nil, nil)
	if err != nil {
		return l // not offered, or not now
	}
	defer resp.Body.Close()
	values := parseMetrics(io.LimitReader(resp.Body, maxMetrics), model)
	pick := func(names []string) float64 {
		for _, n := range names {
			if v, ok := values[n]; ok {
				return v
			}
		}
		return consumers.Unknown
	}
	l.running, l.waiting = int(pick(f.running)), int(pick(f.waiting))
	l.memory, l.preempted, l.total = pick(f.memory), pick(f.preempted), int64(pick(f.total))
	if f.name == "vllm" {
		l.total = vllmTokens(values)
	}
	return l
}

// vllmTokens is the size of vLLM's memory, which its cache_config_info has in labels.
func vllmTokens(values map[string]float64) int64 {
	blocks, size := values["vllm:cache_config_info num_gpu_blocks"], values["vllm:cache_config_info block_size"]
	if blocks <= 0 || size <= 0 {
		return consumers.Unknown
	}
	return int64(blocks * size)
}

// parseMetrics reads Prometheus' text form: the sums of all series of a name, those of other models left out. The labels
// of "info" series that are numbers are there under "name label".
func parseMetrics(r io.Reader, model string) map[string]float64 {
	values := map[string]float64{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		name, labels, v, ok := parseSeries(s.Text())
		if !ok || labels["model_name"] != "" && model != "" && labels["model_name"] != model {
			continue
		}
		values[name] += v
		if strings.HasSuffix(name, "_info") {
			for k, text := range labels {
				if n, err := strconv.ParseFloat(text, 64); err == nil {
					values[name+" "+k] = n
				}
			}
		}
	}
	return values
}

// parseSeries reads one line: name{label="text",…} value.
func parseSeries(line string) (name string, labels map[string]string, v float64, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", nil, 0, false
	}
	end := strings.IndexAny(line, "{ \t")
	if end <= 0 {
		return "", nil, 0, false
	}
	name, rest := line[:end], line[end:]
	if rest[0] == '{' {
		if labels, rest, ok = parseLabels(rest[1:]); !ok {
			return "", nil, 0, false
		}
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return "", nil, 0, false
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	return name, labels, v, err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
}

// parseLabels reads up to the closing bracket.
func parseLabels(s string) (labels map[string]string, rest string, ok bool) {
	labels = map[string]string{}
	for {
		s = strings.TrimLeft(s, " ,")
		if after, done := strings.CutPrefix(s, "}"); done {
			return labels, after, true
		}
		key, after, found := strings.Cut(s, `="`)
		if !found {
			return nil, "", false
		}
		var b strings.Builder
		i := 0
		for ; i < len(after) && after[i] != '"'; i++ {
			if after[i] == '\\' && i+1 < len(after) {
				i++
			}
			b.WriteByte(after[i])
		}
		if i == len(after) {
			return nil, "", false
		}
		labels[key] = b.String()
		s = after[i+1:]
	}
}
