package jinja

import (
	"errors"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/schemas"
)

// message is one turn of a conversation.
func message(role, content string) any {
	return map[string]any{"role": role, "content": content}
}

// chat are the variables that a chat template gets.
func chat(messages ...any) map[string]any {
	return map[string]any{"messages": messages, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true}
}

func TestLanguage(t *testing.T) {
	t.Parallel()
	vars := map[string]any{
		"name": "World", "n": 3, "list": []any{"a", "b", "c"}, "no": nil, "f": 2.5,
		"d": map[string]any{"k": "v", "x": []any{1, 2}},
	}
	for src, want := range map[string]string{
		`Hello {{ name }}!`:   "Hello World!",
		`{{ 'a' + "b" ~ 1 }}`: "ab1",
		`{{ 1 + 2 * 3 - 4 // 2 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ 7 / 2 }}`:                                  "5 1 -4 3.5",
		`{{ n > 2 and n <= 3 or false }} {{ not n == 3 }}`:                                                "True False",
		`{{ 'b' in list }} {{ 'z' not in list }} {{ 'or' in name }}`:                                      "True True True",
		`{{ 'yes' if n is defined else 'no' }} {{ 'x' if q }}`:                                            "yes ",
		`{{ q is not defined }} {{ no is none }} {{ name is string }}`:                                    "True True True",
		`{{ list[0] }}{{ list[-1] }}{{ list[1:] }}{{ name[:2] }}`:                                         `ac["b", "c"]Wo`,
		`{{ list[::-1] | join('-') }} {{ name[::-1] }}`:                                                   "c-b-a dlroW",
		`{{ d.k }} {{ d['k'] }} {{ d.get('zz', 'def') }} {{ d.x[1] }}`:                                    "v v def 2",
		`{{ d | tojson }} {{ d.items() | length }}`:                                                       `{"k": "v", "x": [1, 2]} 2`,
		`{{ ' x ' | trim }}|{{ '  x'.lstrip() }}|{{ 'xx'.strip('x') }}`:                                   "x|x|",
		`{{ 'a,b'.split(',')[1] }} {{ 'abc'.startswith('ab') }}`:                                          "b True",
		`{{ q | default('d') }} {{ '' | default('e', true) }}`:                                            "d e",
		`{% if n == 1 %}1{% elif n == 3 %}3{% else %}?{% endif %}`:                                        "3",
		`{% for x in list %}{{ loop.index }}{{ x }}{% if not loop.last %},{% endif %}{% endfor %}`:        "1a,2b,3c",
		`{% for x in list if x != 'b' %}{{ loop.index0 }}{{ x }}{% endfor %}`:                             "0a1c",
		`{% for x in [] %}x{% else %}none{% endfor %}`:                                                    "none",
		`{% for x in list %}{% if x == 'b' %}{% continue %}{% endif %}{{ x }}{% endfor %}`:                "ac",
		`{% for x in list %}{% if x == 'b' %}{% break %}{% endif %}{{ x }}{% endfor %}`:                   "a",
		`{% for k, v in d.items() %}{{ k }}{% endfor %}`:                                                  "kx",
		`{% set a = 1 %}{% for x in list %}{% set a = 2 %}{% endfor %}{{ a }}`:                            "1",
		`{% set ns = namespace(a=1) %}{% for x in list %}{% set ns.a = ns.a + 1 %}{% endfor %}{{ ns.a }}`: "4",
		`{% set x %}in{{ n }}{% endset %}{{ x }}`:                                                         "in3",
		`{% set a, b = 1, 2 %}{{ a }}{{ b }}`:                                                             "12",
		`{% for i in range(1, 4) %}{{ i }}{% endfor %}`:                                                   "123",
		"a {#- gone -#} b":                       "ab",
		"{# c #}\nx":                             "x",
		"  {% if true %}\n  x\n  {% endif %}\ny": "  x\ny",
		"a {%- if true -%} b {%- endif %} c":     "ab c",
		"{{ '\\n' }}{{ 'it''s' }}\n":             "\nits\n",
		`{{ [{'a': 1}, {'a': 2}] | selectattr('a', 'equalto', 2) | list | length }}`: "1",
		`{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | join(',') }}`:                "1,2",
		`{{ 'Ab' | lower }}{{ 'ab' | upper }}{{ 'AB' | capitalize }}`:                "abABAb",
		`{{ (1, 2) }}{{ f }}{{ true }}{{ none }}`:                                    "[1, 2]2.5TrueNone",
	} {
		tpl, err := Parse(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got, err := tpl.Render(vars); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", src, got, err, want)
		}
	}
}

// TestChatTemplates: the forms of template in use, written anew, with the prompts that they stand for.
func TestChatTemplates(t *testing.T) {
	t.Parallel()
	turns := []any{message("system", "Be brief."), message("user", " Hi "), message("assistant", "Hello."), message("user", "Bye")}
	for name, c := range map[string]struct{ src, want string }{
		"tiny": {
			"{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
			"<s><|system|> Be brief.<|user|>  Hi <|assistant|> Hello.</s><|user|> Bye<|assistant|>",
		},
		"chatml": {
			"{%- if messages[0].role == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n{%- endif %}\n{%- set ns = namespace(multi_step_tool=true, last=messages|length - 1) %}\n{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n    {%- if ns.multi_step_tool and message.role == \"user\" and message.content is string %}\n        {%- set ns.multi_step_tool = false %}\n        {%- set ns.last = index %}\n    {%- endif %}\n{%- endfor %}\n{%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- elif message.role == \"assistant\" %}\n        {{- '<|im_start|>assistant\\n' + message.content.strip('\\n') + '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}",
			"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
		},
		"header ids": {
			"{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
			"<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		},
		"instruction brackets": {
			"{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content'] %}\n    {%- set rest = messages[1:] %}\n{%- else %}\n    {%- set rest = messages %}\n{%- endif %}\n{{- bos_token }}\n{%- for m in rest %}\n    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}\n        {{- raise_exception('roles must alternate') }}\n    {%- endif %}\n    {%- if m['role'] == 'user' %}\n        {%- if loop.last and system is defined %}\n            {{- '[INST] ' + system + '\\n\\n' + m['content'] + '[/INST]' }}\n        {%- else %}\n            {{- '[INST] ' + m['content'] + '[/INST]' }}\n        {%- endif %}\n    {%- else %}\n        {{- ' ' + m['content'] + eos_token }}\n    {%- endif %}\n{%- endfor %}",
			"<s>[INST]  Hi [/INST] Hello.</s>[INST] Be brief.\n\nBye[/INST]",
		},
		"turns": {
			"{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n    {%- set loop_messages = messages[1:] -%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n    {%- if (message['role'] == 'assistant') -%}\n        {%- set role = \"model\" -%}\n    {%- else -%}\n        {%- set role = message['role'] -%}\n    {%- endif -%}\n    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}\n    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n    {%- endif -%}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n",
			"<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
		},
	} {
		tpl, err := Parse(c.src)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := tpl.Render(chat(turns...)); err != nil || got != c.want {
			t.Errorf("%s:\n%q %v, want\n%q", name, got, err, c.want)
		}
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	tpl, err := Parse("{% if messages | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}ok")
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpl.Render(chat(message("user", "a"), message("user", "b")))
	var r *Refusal
	if !errors.As(err, &r) || r.Message != "one at a time" {
		t.Errorf("%v", err)
	}
	if s, err := tpl.Render(chat(message("user", "a"))); s != "ok" || err != nil {
		t.Errorf("%q %v", s, err)
	}
}

// TestUnknown: what is not supported is said when the template is read, not in the middle of a conversation.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		"{% macro f(x) %}{% endmacro %}", "{% include 'x' %}", "{{ x | evil }}", "{{ x is strange }}", "{{ open('/etc/passwd') }}",
		"{{ x.__class__() }}", "{{", "{% if x %}", "{% endif %}", "{{ 'x }}", "{{ 1 + }}", "{% for x %}{% endfor %}", "{# x", "{{ a[1:2:3:4] }}",
		"{{ a[] }}", "{{ $ }}", strings.Repeat("{% if x %}", 200), "{{ " + strings.Repeat("(", 200),
		strings.Repeat("{{ -", 1) + strings.Repeat("-", 300) + "1 }}", strings.Repeat("x", MaxTemplate+1),
	} {
		if _, err := Parse(src); schemas.KindOf(err) != schemas.KindUnsupported && schemas.KindOf(err) != schemas.KindTooLarge {
			t.Errorf("%.40s: %v", src, err)
		}
	}
}

// TestFailures: a template that cannot digest its input fails with a kind.
func TestFailures(t *testing.T) {
	t.Parallel()
	for src, kind := range map[string]schemas.Kind{
		"{{ q.x }}": schemas.KindInvalid, "{{ 1 + 'a' }}": schemas.KindInvalid, "{{ 1 // 0 }}": schemas.KindInvalid, "{{ 1 % 0 }}": schemas.KindInvalid,
		"{{ 1 / 0 }}": schemas.KindInvalid, "{{ [] < [] }}": schemas.KindInvalid, "{% for x in 1 %}{% endfor %}": schemas.KindInvalid,
		"{% break %}": schemas.KindInvalid, "{{ range(99999999) }}": schemas.KindInvalid, "{{ [1][::0] }}": schemas.KindInvalid,
		"{% set a, b = [1] %}": schemas.KindInvalid, "{% set q.x = 1 %}": schemas.KindInvalid, "{{ 1 in 2 }}": schemas.KindInvalid,
		"{{ namespace }}{{ messages[0].content.strip(1) }}":                                                                                            schemas.KindInvalid,
		"{% for a in range(60000) %}{% for b in range(60000) %}{% endfor %}x{% endfor %}":                                                              schemas.KindTooLarge,
		"{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for a in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}":                               schemas.KindInvalid,
		"{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for a in range(19) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}{{ ns.s }}{{ ns.s }}": schemas.KindTooLarge,
	} {
		tpl, err := Parse(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if _, err := tpl.Render(chat(message("user", "hi"))); schemas.KindOf(err) != kind {
			t.Errorf("%s: %v", src, err)
		}
	}
}

// FuzzParse: no template panics, neither read nor run.
func FuzzParse(f *testing.F) {
	f.Add("{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|> ' + m['content'] }}{% endfor %}")
	f.Add("{%- set ns = namespace(a=1) %}{{ ns.a[1:2] | tojson(indent=2) }}{% if x is not defined %}{{ -1 ** 2 }}{% endif %}")
	f.Add("{# c -#} {% set a, b = messages[::-1] %}{{ a if b else c }}")
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 4096 {
			return
		}
		tpl, err := Parse(src)
		if err != nil {
			return
		}
		_, _ = tpl.Render(chat(message("user", "hi"), message("assistant", "ho")))
	})
}
