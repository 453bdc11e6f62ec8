//go:build !worker

package main

import (
	"github.com/spf13/cobra"

	consumerscli "github.com/cocoon-network/cocoon/consumers/cli"
	"github.com/cocoon-network/cocoon/consumers/ggml/tiny"
	enclavecli "github.com/cocoon-network/cocoon/enclave/cli"
	producerscli "github.com/cocoon-network/cocoon/producers/cli"
	settlementcli "github.com/cocoon-network/cocoon/settlement/cli"
	"github.com/cocoon-network/cocoon/streams"
	streamscli "github.com/cocoon-network/cocoon/streams/cli"
)

// buildKind is shown by version.
const buildKind = "full"

// addVerbs hangs in every verb.
func addVerbs(root *cobra.Command) {
	models := producerscli.ModelsCommand()
	models.AddCommand(enclavecli.ModelsSeal(), enclavecli.ModelsPublish())
	models.AddCommand(consumerscli.LocalModels()...)
	for group, verbs := range map[string][]*cobra.Command{
		groupRun: {
			demoCommand(), upCommand(), workerCommand(), consumerscli.Engine(tiny.FS()), producerscli.GatewayCommand(),
			enclavecli.Broker(), settlementcli.Settle(), withNetwork(streamscli.Control(connect)), withNetwork(consumerscli.Dashboard(connect)),
		},
		groupUse: {producerscli.JobCommand(), producerscli.BatchCommand(), models},
		groupOperate: {
			doctorCommand(), benchCommand(), withNetwork(consumerscli.Workers(connect)),
			withNetwork(streamscli.Consumers(connect)), withNetwork(streamscli.DLQ(connect)), withNetwork(streamscli.Topology(connect)),
		},
		groupTrust: {
			enclavecli.AttestCommand(), withNetwork(enclavecli.PolicyCommand(enclavecli.OverBus(connect))),
			withNetwork(enclavecli.CatalogueCommand(enclavecli.OverBus(connect))), enclavecli.Keys(), settlementcli.Receipt(),
			settlementcli.Account(), settlementcli.Payouts(), settlementcli.Reconcile(),
		},
	} {
		for _, verb := range verbs {
			root.AddCommand(grouped(group, verb))
		}
	}
}

// Flags of verbs that speak to a network.
const (
	natsFlag  = "nats"
	credsFlag = "creds"
)

// withNetwork adds the flags that say which network a noun's verbs speak to.
func withNetwork(noun *cobra.Command) *cobra.Command {
	noun.PersistentFlags().String(natsFlag, "", "NATS server (env NATS_URL, NATS_CONTEXT)")
	noun.PersistentFlags().String(credsFlag, "", "NATS credentials file (env NATS_CREDS)")
	return noun
}

// connect reaches the network that the flags of a command, or the environment, name.
func connect(cmd *cobra.Command) (*streams.Bus, error) {
	url, err := cmd.Flags().GetString(natsFlag)
	if err != nil {
		return nil, err
	}
	creds, err := cmd.Flags().GetString(credsFlag)
	if err != nil {
		return nil, err
	}
	return streams.Connect(cmd.Context(), streams.Config{URL: url, Creds: creds, Name: cmd.CommandPath()})
}
