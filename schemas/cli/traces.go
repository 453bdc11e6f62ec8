package cli

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/cocoon-network/cocoon/schemas/tracing"
)

// Environment variables of OpenTelemetry: one of the endpoints turns tracing on. The SDK reads others, such as
// OTEL_TRACES_SAMPLER, OTEL_BSP_SCHEDULE_DELAY and OTEL_RESOURCE_ATTRIBUTES.
const (
	envOTLP       = "OTEL_EXPORTER_OTLP_ENDPOINT"        // /v1/traces is added
	envOTLPTraces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" // as it is
	envHeaders    = "OTEL_EXPORTER_OTLP_HEADERS"         // name=value,…
)

// tracesFlush bounds the sending of what is left when a process ends.
const tracesFlush = 5 * time.Second

// Traces sets up tracing of a process, named service, when the environment names a collector (OTLP over HTTP). Without one
// it returns nil, which traces nothing and costs nothing. A collector that is away or slow costs spans, never time. stop
// sends what is left.
func Traces(ctx context.Context, service string, log *slog.Logger) (tracer *tracing.Tracer, stop func(), err error) {
	url := os.Getenv(envOTLPTraces)
	if base := os.Getenv(envOTLP); url == "" && base != "" {
		url = strings.TrimSuffix(base, "/") + "/v1/traces"
	}
	if url == "" {
		return nil, func() {}, nil
	}
	exporter, err := newOTLP(url, os.Getenv(envHeaders))
	if err != nil {
		return nil, nil, err
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", service)), resource.WithFromEnv())
	if err != nil {
		return nil, nil, Usagef("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are lost", "error", err) }))
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about), sdk.WithIDGenerator(tracing.IDs{}))
	return tracing.New(provider), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesFlush)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("traces are lost", "error", err)
		}
	}, nil
}
