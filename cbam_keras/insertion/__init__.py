"""insertion."""

from cbam_keras.insertion.insert import Place, Places, insert_attention
