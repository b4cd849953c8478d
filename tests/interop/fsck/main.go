// Fsck checks a log with the fsck library of Tessera: other people's code reads our folder, or our server.
//
//	fsck VKEY DIR|URL
//
// Exit status: 0 sound, 1 not, 2 the library panicked (it does on a bundle that is too short). The library waits for ever once
// each of its workers has met a bad tile while tiles remain: hence many workers, and a limit to its time.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
)

const (
	patience = 2 * time.Minute
	workers  = 128
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: fsck VKEY DIR|URL")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatalf("REFUSED: %v", err)
	}
	log.Print("SOUND")
}

func run(vkey, place string) error {
	key, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	from, err := fetcher(place)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	verdict := make(chan error, 1)
	go func() { verdict <- fsck.New(key.Name(), key, from, hashes, fsck.Opts{N: workers}).Check(ctx) }()
	select {
	case err := <-verdict:
		return err
	case <-ctx.Done():
		return errors.New("no verdict in time")
	}
}

func fetcher(place string) (fsck.Fetcher, error) {
	if !strings.HasPrefix(place, "http://") {
		return &client.FileFetcher{Root: place}, nil
	}
	base, err := url.Parse(place)
	if err != nil {
		return nil, err
	}
	return client.NewHTTPFetcher(base, http.DefaultClient)
}

// hashes gives the leaf hashes of an entry bundle.
func hashes(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var all [][]byte
	for _, entry := range entries.Entries {
		all = append(all, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return all, nil
}
